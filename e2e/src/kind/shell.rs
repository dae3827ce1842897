//! Programs of this machine: kubectl, helm, and those that look into a node.
//!
//! Owns how they are run and how their failure is told.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{process::Command, time::timeout};

/// No program may take longer, but helm, which waits for others and is given a limit of its own.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command to its end and returns what it prints.
///
/// # Errors
/// Where it fails, with what it says, or does not end within a minute.
pub async fn run(command: Command) -> Result<String> {
    run_within(command, PATIENCE).await
}

/// As [`run`], with another limit.
///
/// # Errors
/// As [`run`].
pub async fn run_within(mut command: Command, limit: Duration) -> Result<String> {
    let words: Vec<_> = [command.as_std().get_program()].into_iter().chain(command.as_std().get_args()).collect();
    let what = words.join(OsStr::new(" ")).to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    let done = timeout(limit, child.wait_with_output()).await;
    let done = done.with_context(|| format!("{what} did not end within {limit:?}"))??;
    if !done.status.success() {
        let [said, printed] = [&done.stderr, &done.stdout].map(|text| String::from_utf8_lossy(text));
        bail!("{what} failed ({}): {}\n{}", done.status, said.trim(), printed.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
