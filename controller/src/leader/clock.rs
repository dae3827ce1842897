//! The clock that leadership is judged by.
//!
//! Owns reading it: CLOCK_BOOTTIME, which goes on while the machine sleeps. A leader that wakes up must know that its
//! time is over, and CLOCK_MONOTONIC would not have moved.

use std::{pin::pin, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// The longest between two looks at the clock: timers do not go on while the machine sleeps, and the clock does.
pub(super) const GLANCE: Duration = Duration::from_millis(500);

/// Time since the machine started.
pub(super) fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).expect("a machine does not start in the future")
}

/// What `future` resolves to; none where it takes until `deadline`.
pub(super) async fn within<T>(deadline: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    loop {
        let left = deadline.checked_sub(now()).filter(|left| !left.is_zero())?;
        if let Ok(done) = tokio::time::timeout(left.min(GLANCE), &mut future).await {
            return Some(done);
        }
    }
}
