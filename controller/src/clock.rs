//! The wall clock, read at the edge only.
//!
//! Owns the two units the controller uses. Must never be asked inside a decision: whoever decides takes the time as an
//! argument, so that a test can choose it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in seconds; 0 where the machine's clock stands before 1970.
pub(crate) fn unix_seconds() -> i64 {
    unix_ms() / 1000
}

/// Unix time in milliseconds; 0 where the machine's clock stands before 1970.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
