//! Waiting for a condition that announces itself by no event.
//!
//! Owns the polling: every wait names what it waits for and says at its end what it saw last. Owns how much longer every limit is
//! on a slow machine, too: `WEFT_TEST_PATIENCE=10` makes all of them ten times as long.

use std::{
    env,
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

/// How long a condition may take unless a caller says otherwise: generous, for slow and busy machines.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(25);
/// By how much every limit is multiplied.
const FACTOR: &str = "WEFT_TEST_PATIENCE";

/// How long something may take on this machine that may take `usual` on a usual one.
///
/// # Panics
/// Where the setting is no factor.
pub fn limit(usual: Duration) -> Duration {
    static SET: LazyLock<u32> = LazyLock::new(|| factor(env::var(FACTOR).ok().as_deref()));
    usual * *SET
}

fn factor(set: Option<&str>) -> u32 {
    let Some(set) = set else { return 1 };
    let factor = set.parse().ok().filter(|factor| (1..=1000).contains(factor));
    factor.unwrap_or_else(|| panic!("{FACTOR} is {set:?}: a whole number from 1 to 1000"))
}

/// Asks `condition` until it gives a value. An error means "not yet" and is shown when time runs out.
///
/// # Errors
/// When [`limit`] of `patience` is over, with the condition's last error.
pub async fn until<T>(what: &str, patience: Duration, mut condition: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let (start, patience) = (Instant::now(), limit(patience));
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > patience => {
                return Err(anyhow!("waited {patience:?} for {what}; the last look said: {error:#}"));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_as_they_are_unless_somebody_says_otherwise() {
        assert_eq!(factor(None), 1);
        assert_eq!(factor(Some("30")), 30);
    }

    #[test]
    fn a_setting_that_is_no_factor_is_not_taken_for_one() {
        for wrong in ["", "0", "-1", "1.5", "ten", "1001"] {
            assert!(std::panic::catch_unwind(|| factor(Some(wrong))).is_err(), "{wrong:?} was taken");
        }
    }
}
