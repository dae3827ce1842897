//! Where connections get their places.
//!
//! Owns the [`Places`] of the connections that there are, and the sockets that they may have: whoever makes room is gone before
//! another comes. Must never hold anybody up for longer than one look.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use super::{
    Kill,
    places::{Answer, Bounds, OF_OPERATOR, Places, Who},
    signs::Signs,
};
use crate::{clock, metrics::Metrics, pki::Principal};

/// How often it is looked who has stayed too long, and whether somebody has for whom others wait.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// Says whose certificate counts at present.
pub(crate) type Welcome = Arc<dyn Fn(&Principal) -> bool + Send + Sync>;

/// The places of one door.
pub(super) struct Lobby {
    places: Mutex<Places<Arc<Kill>>>,
    /// One for each place, and given back with the socket.
    sockets: Arc<Semaphore>,
    freed: Notify,
    welcome: Welcome,
    metrics: Arc<Metrics>,
}

/// A connection's place, until it is dropped with it.
pub(super) struct Seated {
    lobby: Arc<Lobby>,
    key: u64,
    socket: Option<OwnedSemaphorePermit>,
}

/// An operator has as many connections as one may.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "operator {operator} has {OF_OPERATOR} connections open, the most that one may have: end some of them, such as `weft peers --watch`, or make a certificate for each user with `weft-controller operator`"
)]
pub(crate) struct Enough {
    operator: String,
}

impl Lobby {
    pub(super) fn new(bounds: Bounds, welcome: Welcome, metrics: Arc<Metrics>) -> Arc<Self> {
        let sockets = Arc::new(Semaphore::new(bounds.all));
        Arc::new(Self { places: Mutex::new(Places::new(bounds)), sockets, freed: Notify::new(), welcome, metrics })
    }

    /// Whose place it would be: a certificate that does not count makes a stranger.
    pub(super) fn who(&self, principal: &Principal) -> Who {
        if (self.welcome)(principal) { Who::Known(principal.clone()) } else { Who::Stranger }
    }

    /// Waits for a place.
    pub(super) async fn enter(
        self: &Arc<Self>,
        who: &Who,
        signs: &Arc<Signs>,
        kill: &Arc<Kill>,
    ) -> Result<Seated, Enough> {
        loop {
            // Heard from here on, so that no place is freed between the look and the wait.
            let freed = self.freed.notified();
            let answer = self.places().enter(who, signs, Arc::clone(kill), Instant::now());
            match (answer, who) {
                (Answer::In { key, out }, _) => {
                    let mut seated = Seated { lobby: Arc::clone(self), key, socket: None };
                    out.iter().for_each(|out| self.end(out, "displaced"));
                    seated.socket = Arc::clone(&self.sockets).acquire_owned().await.ok();
                    return Ok(seated);
                }
                (Answer::Enough, Who::Known(Principal::Operator(operator))) => {
                    return Err(Enough { operator: operator.clone() });
                }
                _ => drop(timeout(LOOK, freed).await),
            }
        }
    }

    /// Waits for a stranger's place.
    pub(super) async fn as_stranger(self: &Arc<Self>, signs: &Arc<Signs>, kill: &Arc<Kill>) -> Seated {
        self.enter(&Who::Stranger, signs, kill).await.expect("only operators can have enough")
    }

    /// Ends the connections of those who have stayed too long, for ever.
    pub(super) async fn keep_clear(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let over = self.places().sweep(Instant::now(), clock::unix_seconds(), &*self.welcome);
            for (kill, why) in over {
                self.end(&kill, why);
                self.freed.notify_one();
            }
        }
    }

    fn end(&self, kill: &Kill, why: &'static str) {
        self.metrics.connection_ended(why);
        kill.kill();
    }

    fn places(&self) -> MutexGuard<'_, Places<Arc<Kill>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.lobby.places().leave(self.key);
        self.lobby.freed.notify_one();
    }
}

impl std::fmt::Debug for Seated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has_socket = self.socket.is_some();
        write!(f, "Seated({}, {has_socket})", self.key)
    }
}
