//! What the machine and the sandbox must allow.

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::process::Command;

/// Descriptors of this process that are no agent's.
const OTHERS: u64 = 256;

/// Raises the limit on open files, of this process and of the controller that it starts. Each agent has one connection,
/// and where all reconnect at once for a moment two.
pub(super) fn make_room(agents: usize) -> Result<()> {
    let needed = 2 * u64::try_from(agents)? + OTHERS;
    let present = getrlimit(Resource::Nofile);
    if present.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    if let Some(hard) = present.maximum.filter(|hard| *hard < needed) {
        bail!(
            "{agents} agents need {needed} open files, and the hard limit is {hard}: raise it with `ulimit -Hn {needed}` \
             as root, or measure fewer agents with --agents"
        );
    }
    let raised = Rlimit { current: Some(needed), maximum: present.maximum };
    setrlimit(Resource::Nofile, raised).with_context(|| format!("cannot raise the limit on open files to {needed}"))
}

/// The sandbox begins with its loopback down.
pub(super) async fn loopback_up() -> Result<()> {
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().await.context("cannot start ip(8)")?;
    ensure!(status.success(), "cannot set the sandbox's loopback up: ip ended with {status}");
    Ok(())
}
