//! Seats for connections that have not shown yet who they are.
//!
//! Owns their number. Where all are taken, whoever has kept us waiting longest makes room, unless it came just now:
//! honest peers answer in a moment, so it is the dawdling ones that go. Must never displace one that waits for us.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout},
};

/// Nobody is displaced earlier.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether somebody may be.
const PAUSE: Duration = Duration::from_millis(20);

/// Those who keep us waiting, the oldest first.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
}

/// All seats.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    waiting: Arc<Mutex<Waiting>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Seat {
    _seat: OwnedSemaphorePermit,
    waiting: Arc<Mutex<Waiting>>,
}

impl Seats {
    pub(super) fn new(seats: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(seats)), waiting: Arc::default() }
    }

    /// A seat, at somebody else's cost where there is none.
    pub(super) async fn seat(&self) -> Seat {
        loop {
            if self.free.available_permits() == 0 {
                self.displace();
            }
            if let Ok(seat) = timeout(PAUSE, Arc::clone(&self.free).acquire_owned()).await {
                let seat = seat.expect("nobody closes it");
                return Seat { _seat: seat, waiting: Arc::clone(&self.waiting) };
            }
        }
    }

    fn displace(&self) {
        let mut waiting = lock(&self.waiting);
        let is_due = |since: &Instant| since.elapsed() >= PATIENCE;
        if let Some(oldest) = waiting.since.first_entry().filter(|entry| is_due(&entry.get().0)) {
            let (_, displaced) = oldest.remove();
            let _finished_just_now = displaced.send(());
        }
    }
}

impl Seat {
    /// Waits for the peer; none where it is displaced meanwhile.
    pub(super) async fn unless_displaced<T>(&mut self, peer: impl Future<Output = T>) -> Option<T> {
        let (displace, displaced) = oneshot::channel();
        let entry = Entry::new(&self.waiting, displace);
        let answer = tokio::select! {
            biased;
            answer = peer => Some(answer),
            _ = displaced => None,
        };
        drop(entry);
        answer
    }
}

/// An entry among the waiting, gone with its value however the wait ends.
struct Entry<'a> {
    waiting: &'a Mutex<Waiting>,
    key: u64,
}

impl<'a> Entry<'a> {
    fn new(waiting: &'a Mutex<Waiting>, displace: oneshot::Sender<()>) -> Self {
        let mut held = lock(waiting);
        // Never used again: whoever was displaced drops its entry when the next one may be there already.
        let key = held.next;
        held.next += 1;
        held.since.insert(key, (Instant::now(), displace));
        Self { waiting, key }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        lock(self.waiting).since.remove(&self.key);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_one_that_dawdles_longest_makes_room_and_one_at_its_turn_never_does() {
        let seats = Seats::new(3);
        let _at_its_turn = seats.seat().await;
        let dawdle =
            |mut seat: Seat| tokio::spawn(async move { seat.unless_displaced(std::future::pending::<()>()).await });
        let first = dawdle(seats.seat().await);
        let second = dawdle(seats.seat().await);
        tokio::task::yield_now().await;
        let began = Instant::now();
        let _newcomer = seats.seat().await;
        assert!(began.elapsed() >= PATIENCE, "displaced without a chance");
        assert_eq!(first.await.expect("no panic"), None);
        assert!(!second.is_finished(), "more than one was displaced");
    }
}
