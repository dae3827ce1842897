//! What a leader is held back by when its time is over.
//!
//! Owns one number: until when this replica leads, by the [`clock`]. Whoever acts as the leader looks at it before each
//! act, since a replica that slept may be asked for something before it notices that it slept. Must never be extended but
//! by a confirmed renewal.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::clock;

/// Clones are the same fence.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fence(Arc<AtomicU64>);

impl Fence {
    /// True while this replica leads.
    pub(crate) fn holds(&self) -> bool {
        clock::now().as_nanos() < self.0.load(Ordering::Acquire).into()
    }

    pub(super) fn set(&self, until: Option<Duration>) {
        let nanos = until.map_or(0, |until| u64::try_from(until.as_nanos()).unwrap_or(u64::MAX));
        self.0.store(nanos, Ordering::Release);
    }

    /// One that holds for a long while, for tests.
    #[cfg(test)]
    pub(crate) fn held() -> Self {
        let fence = Self::default();
        fence.set(Some(clock::now() + Duration::from_secs(3600)));
        fence
    }
}
