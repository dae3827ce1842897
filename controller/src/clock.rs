//! The clocks, read at the edge only.
//!
//! Owns the two of them and their units. Must never be asked for inside a decision: whoever decides is given the time,
//! or the [`Clock`] that tells it, so that a test can choose it.

use std::time::SystemTime;

use tokio::time::Instant;
use weft_core::types::UnixMs;

/// What time it is.
pub(crate) trait Clock: Send + Sync {
    /// By the clock that never jumps: for spans of time.
    fn now(&self) -> Instant;

    /// By the wall clock, which may jump.
    fn unix(&self) -> UnixMs;
}

/// The clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix(&self) -> UnixMs {
        SystemTime::now().into()
    }
}

/// Unix time in seconds; 0 where the machine's clock stands before 1970.
pub(crate) fn unix_seconds() -> i64 {
    UnixMs::from(SystemTime::now()).seconds()
}
