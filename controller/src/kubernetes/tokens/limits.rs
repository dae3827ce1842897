//! How much strangers may cost the API server.
//!
//! Owns two limits: reviews at a time, and refused tokens of one address. Must never count a token that nobody could judge:
//! an outage of the API server would shut out all nodes for longer than it lasts.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

/// Reviews at a time. At a few milliseconds each, a cluster of thousands that starts as a whole is through in seconds.
const AT_A_TIME: usize = 32;
/// How long a review may wait for its turn.
const TURN: Duration = Duration::from_secs(5);
/// So many refused tokens of an address within [`WINDOW`] are looked at.
const REFUSED: u32 = 32;
const WINDOW: Duration = Duration::from_secs(30);
/// Addresses that are remembered at most; whoever has more of them than that is not held off by addresses.
const ADDRESSES: usize = 4096;

/// The limits, and what counts against them.
#[derive(Debug)]
pub(super) struct Limits {
    turns: Semaphore,
    refused: Mutex<HashMap<IpAddr, Refused>>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Instant,
    count: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_A_TIME), refused: Mutex::default() }
    }
}

impl Limits {
    /// True where a token of `source` is looked at.
    pub(super) fn may_ask(&self, source: IpAddr, now: Instant) -> bool {
        self.known().get(&source).is_none_or(|refused| refused.count < REFUSED || refused.is_over(now))
    }

    /// One of `source` was refused.
    pub(super) fn count(&self, source: IpAddr, now: Instant) {
        let mut all = self.known();
        if all.len() >= ADDRESSES && !all.contains_key(&source) {
            all.retain(|_, refused| !refused.is_over(now));
            if all.len() >= ADDRESSES {
                return;
            }
        }
        let refused = all.entry(source).or_insert(Refused { since: now, count: 0 });
        if refused.is_over(now) {
            *refused = Refused { since: now, count: 0 };
        }
        refused.count += 1;
    }

    /// A turn at the API server; none where it takes too long to come.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(TURN, self.turns.acquire()).await.ok()?.ok()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<IpAddr, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn is_over(self, now: Instant) -> bool {
        now.duration_since(self.since) >= WINDOW
    }
}
