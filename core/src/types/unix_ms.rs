//! Moments.

use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, as Unix time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The same in whole seconds.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl From<SystemTime> for UnixMs {
    /// A moment before 1970 counts as its first.
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
