//! `weft-lab bench`.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use super::Output;
use crate::{
    bench::peers,
    lab::{harness, print_logs},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Program thousands of peers in a fresh namespace, change one, and look at the agent's memory.
    Peers(Peers),
}

#[derive(Debug, Args)]
struct Peers {
    /// Numbers of peers.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,10000")]
    peers: Vec<u32>,
    /// Rounds of each measurement; medians are printed.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// With `json` the findings alone are on standard output.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the bench inside the sandbox.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if cfg!(debug_assertions) {
        eprintln!("weft-lab: this is a build without optimisations; use ./dev bench for figures that count");
    }
    let done = match &arguments.bench {
        Bench::Peers(arguments) => measure_peers(arguments),
    };
    if done.is_err() {
        print_logs();
    }
    done.map(|()| ExitCode::SUCCESS)
}

fn measure_peers(arguments: &Peers) -> Result<()> {
    let within = 1..=32_000;
    ensure!(arguments.peers.iter().all(|peers| within.contains(peers)), "--peers takes numbers from 1 to 32000");
    let plan = peers::Plan { peers: arguments.peers.clone(), rounds: arguments.rounds.max(1) };
    let findings = harness::run(async || peers::run(&plan, &|line| eprintln!("{line}")).await)?;
    if arguments.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    }
    Ok(())
}
