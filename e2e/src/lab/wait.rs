//! Waiting for a condition that announces itself by no event.
//!
//! Owns the polling: every wait names what it waits for and says at its end what it saw last.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long a condition may take unless a caller says otherwise: generous, for slow and busy machines.
pub const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(25);

/// Asks `condition` until it gives a value. An error means "not yet" and is shown when time runs out.
///
/// # Errors
/// When `patience` is over, with the condition's last error.
pub async fn until<T>(what: &str, patience: Duration, mut condition: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
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
