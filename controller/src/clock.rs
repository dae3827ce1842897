//! The clocks, read at the edge only.
//!
//! Owns the two of them and their units. Must never be asked for inside a decision: whoever decides is given the time,
//! or the [`Clock`] that tells it, so that a test can choose it.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// What time it is.
pub(crate) trait Clock: Send + Sync {
    /// By the clock that never jumps: for spans of time.
    fn now(&self) -> Instant;

    /// By the wall clock, which may jump: Unix time in milliseconds.
    fn unix_ms(&self) -> i64;

    /// The same in seconds.
    fn unix_seconds(&self) -> i64 {
        self.unix_ms() / 1000
    }
}

/// The clocks of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_ms(&self) -> i64 {
        unix_ms()
    }
}

/// Unix time in seconds; 0 where the machine's clock stands before 1970.
pub(crate) fn unix_seconds() -> i64 {
    unix_ms() / 1000
}

/// Unix time in milliseconds; 0 where the machine's clock stands before 1970.
fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
