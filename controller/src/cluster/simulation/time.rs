//! Time as the scheduler has it.
//!
//! Owns the two clocks of the simulated controller. Must never move by itself.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};
use weft_core::types::UnixMs;

use tokio::time::Instant;

use crate::clock::Clock;

/// Unix time at the beginning of every world, in milliseconds.
const EPOCH_MS: i64 = 1_800_000_000_000;

/// The clocks of the controller.
#[derive(Debug)]
pub(super) struct SimClock {
    /// Where spans are counted from; only differences are ever looked at.
    zero: Instant,
    elapsed_ms: AtomicU64,
    /// How far the wall clock is off, in milliseconds.
    offset_ms: AtomicI64,
}

impl SimClock {
    pub(super) fn new() -> Self {
        let zero = Instant::now() + Duration::from_secs(86_400);
        Self { zero, elapsed_ms: AtomicU64::new(0), offset_ms: AtomicI64::new(0) }
    }

    /// It is so late at least: while somebody waits for the disk it is later already.
    pub(super) fn set(&self, elapsed_ms: u64) {
        self.elapsed_ms.fetch_max(elapsed_ms, Ordering::Relaxed);
    }

    /// Time goes by in the middle of a step.
    pub(super) fn wait(&self, ms: u64) {
        self.elapsed_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Milliseconds since the beginning.
    pub(super) fn elapsed(&self) -> u64 {
        self.elapsed_ms.load(Ordering::Relaxed)
    }

    /// Makes the wall clock jump.
    pub(super) fn jump(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// How long after the beginning an instant of this clock is, in milliseconds.
    pub(super) fn elapsed_at(&self, instant: Instant) -> u64 {
        u64::try_from(instant.duration_since(self.zero).as_millis()).expect("worlds are short")
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.zero + Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed))
    }

    fn unix(&self) -> UnixMs {
        let elapsed = i64::try_from(self.elapsed_ms.load(Ordering::Relaxed)).expect("worlds are short");
        UnixMs(EPOCH_MS + elapsed + self.offset_ms.load(Ordering::Relaxed))
    }
}
