//! The outside: starts this program in a sandbox, waits for it, and ends it on Ctrl-C.

use std::{env, process::ExitCode};

use anyhow::{Context, Result};
use rustix::{
    io::Errno,
    process::{WaitOptions, getpid, set_child_subreaper, wait},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::lab::sandbox;

/// Exit codes of a program ended by a signal are 128 and its number.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Runs this very command line inside and returns its exit code.
///
/// # Errors
/// Where this machine allows no sandbox.
pub(super) fn run() -> Result<ExitCode> {
    sandbox::check()?;
    set_child_subreaper(Some(getpid())).context("cannot become the reaper of the sandbox's processes")?;
    // On the main thread: the sandbox dies with the thread that starts it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise())
}

async fn supervise() -> Result<ExitCode> {
    let own = env::current_exe().context("cannot tell which program is running")?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut command = tokio::process::Command::from(sandbox::command(own, env::args_os().skip(1)));
    let mut child = command.spawn().context("cannot start the sandbox")?;
    let code = tokio::select! {
        status = child.wait() => return Ok(status?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into()),
        _ = interrupt.recv() => INTERRUPTED,
        _ = terminate.recv() => TERMINATED,
    };
    // The end of its first process ends the sandbox, and that of unshare(1) ends the first process.
    child.kill().await.context("cannot end the sandbox")?;
    wait_for_all();
    Ok(code.into())
}

/// Once unshare(1) is gone its child is ours; it ends when everything in the sandbox has.
fn wait_for_all() {
    while !matches!(wait(WaitOptions::empty()), Err(Errno::CHILD)) {}
}
