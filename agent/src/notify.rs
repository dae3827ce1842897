//! Tells systemd that the network of pods is there (sd_notify(3)), so that kubelet and container runtimes, which are ordered behind
//! the agent, start their pods into it.
//!
//! Owns the moment. Must never wait for the controller, nor for long: a node that cannot be programmed boots all the same.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{debug, warn};
use weft_core::standing::Reason;

use crate::engine::Status;

/// The start goes on after so long, whatever the kernel holds by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells the service manager, if one started this program.
pub(crate) async fn when_ready(status: watch::Receiver<Status>) {
    due(status).await;
    match sd_notify::notify(&[NotifyState::Ready]) {
        Ok(()) => debug!("the service manager, if there is one, was told that the agent has started"),
        Err(error) => warn!("the service manager cannot be told that the agent has started: {error}"),
    }
}

/// Until what the last membership asks for is programmed, or there turns out to be none on the disk.
async fn due(mut status: watch::Receiver<Status>) {
    let has_none =
        |status: &Status| status.problem.as_ref().is_some_and(|problem| problem.reason == Reason::NoMembership);
    let is_due = |status: &Status| status.ready || has_none(status);
    let _late_or_ending = tokio::time::timeout(PATIENCE, status.wait_for(is_due)).await;
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::engine::Problem;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_controller_or_for_ever() {
        for (is_ready, reason, is_at_once) in [
            (false, None, false),
            (true, None, true),
            (false, Some(Reason::NoMembership), true),
            (false, Some(Reason::KernelDiffers), false),
        ] {
            let mut status = Status::default();
            status.ready = is_ready;
            status.problem = reason.clone().map(|reason| Problem::new(reason, "why"));
            let (_told, told) = watch::channel(status);
            assert_eq!(due(told.clone()).now_or_never().is_some(), is_at_once, "{reason:?}");
            tokio::time::timeout(PATIENCE * 2, due(told)).await.expect("it goes on in the end");
        }
    }
}
