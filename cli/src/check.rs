//! `weft check`: lets pods of all nodes talk to each other. What the chart's `helm test` runs, and so not listed.
//!
//! Owns its command line. One pod on each node serves; one more has them all call each other and tells what it found.

mod pairs;
mod pods;
mod serve;
mod talk;

use std::time::Duration;

use clap::Subcommand;

/// Enough for full-sized packets each way, which a path with a wrong MTU swallows.
const BYTES: usize = 64 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum CheckCommand {
    /// Answer other pods, and call those that `check pods` names.
    Serve {
        /// Port to answer on, and to call.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Have the pods of a DaemonSet, which serve, call each other.
    Pods(PodsArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct PodsArgs {
    /// The DaemonSet, in --namespace.
    #[arg(long)]
    daemonset: String,
    /// Port on which its pods serve.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Seconds to wait for its pods.
    #[arg(long, default_value = "120", value_parser = seconds)]
    timeout: Duration,
    /// How many others each pod calls at most.
    #[arg(long, default_value_t = 16)]
    most: usize,
}

pub(crate) async fn run(namespace: &str, command: &CheckCommand) -> anyhow::Result<()> {
    match command {
        CheckCommand::Serve { port } => serve::run(*port).await,
        CheckCommand::Pods(args) => pods::run(namespace, args).await,
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| format!("{text:?} is no number of seconds, such as 120"))
}
