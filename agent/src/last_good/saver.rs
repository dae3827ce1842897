//! The one who writes the last good membership.
//!
//! Owns that one writing is under way at most and that the newest membership wins: whatever comes while a slow disk is busy
//! takes the place of what waits. Must never let the agent's loop wait for a disk.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::task::JoinHandle;
use tracing::warn;
use weft_core::membership::Snapshot;

use super::LastGood;
use crate::disk_trouble::{self, DiskTrouble};

/// Takes memberships, and writes the newest of them.
pub(crate) struct Saver<T = Snapshot> {
    shared: Arc<Shared<T>>,
    writer: Option<JoinHandle<()>>,
}

struct Shared<T> {
    save: Box<dyn Fn(T) + Send + Sync>,
    queue: Mutex<Queue<T>>,
}

struct Queue<T> {
    next: Option<T>,
    /// Somebody is writing, and looks for the next when that is done.
    is_busy: bool,
}

impl Saver {
    /// Writes to `last_good`; what a crash left there of a writing goes.
    pub(crate) fn new(last_good: LastGood, trouble: DiskTrouble) -> Self {
        if let Err(error) = last_good.sweep() {
            warn!("what an earlier agent left half written cannot be removed: {error}");
        }
        Self::through(move |snapshot| {
            let problem = last_good.save(&snapshot).err().map(|error| {
                format!(
                    "the membership cannot be kept on disk: {error}; a reboot without a controller would find an older one: make \
                     space in the state directory"
                )
            });
            problem.iter().for_each(|problem| warn!("{problem}"));
            trouble.set(disk_trouble::MEMBERSHIP, problem);
        })
    }
}

impl<T: Send + 'static> Saver<T> {
    fn through(save: impl Fn(T) + Send + Sync + 'static) -> Self {
        let queue = Mutex::new(Queue { next: None, is_busy: false });
        Self { shared: Arc::new(Shared { save: Box::new(save), queue }), writer: None }
    }

    /// Has this written next, whatever else waits.
    pub(crate) fn save(&mut self, newest: T) {
        let mut queue = self.shared.queue();
        queue.next = Some(newest);
        if !std::mem::replace(&mut queue.is_busy, true) {
            let shared = Arc::clone(&self.shared);
            self.writer = Some(tokio::task::spawn_blocking(move || shared.write_all()));
        }
    }

    /// Returns once nothing is under way.
    pub(crate) async fn finish(&mut self) {
        if let Some(writer) = self.writer.take() {
            // What it says, it has said itself.
            let _ended = writer.await;
        }
    }
}

impl<T> Shared<T> {
    fn write_all(&self) {
        while let Some(next) = self.next() {
            (self.save)(next);
        }
    }

    /// What to write now; none ends the writer, decided in the same moment in which the next one may begin.
    fn next(&self) -> Option<T> {
        let mut queue = self.queue();
        let next = queue.next.take();
        queue.is_busy = next.is_some();
        next
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().expect("no panic while it is held: assignments only")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A disk that takes one writing at a time, and each only when told.
    #[tokio::test]
    async fn while_the_disk_is_slow_the_newest_waits_and_the_others_are_skipped() {
        let (began, begun) = mpsc::channel();
        let (go_on, gone_on) = mpsc::channel();
        let gone_on = Mutex::new(gone_on);
        let mut saver = Saver::through(move |number: u32| {
            began.send(number).expect("the test listens");
            let disk = gone_on.try_lock().expect("two writings at once");
            disk.recv().expect("the test goes on");
        });
        saver.save(1);
        assert_eq!(begun.recv(), Ok(1));
        (2..=5).for_each(|number| saver.save(number));
        go_on.send(()).expect("it waits");
        assert_eq!(begun.recv(), Ok(5));
        go_on.send(()).expect("it waits");
        saver.finish().await;
        assert!(begun.try_recv().is_err(), "something older was written after it");
        saver.save(6);
        assert_eq!(begun.recv(), Ok(6), "the next one is written too");
        go_on.send(()).expect("it waits");
        saver.finish().await;
    }
}
