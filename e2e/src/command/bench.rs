//! `weft-lab bench`.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use super::Output;
use crate::{
    bench::{fleet, path, peers, pods},
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
    /// Attach and detach as many pods as a node may have, beside the reference plugins and the bare kernel work.
    Pods(Pods),
    /// Talk between two subnets: node to node, natively routed pods, and Weft's pods.
    Path(Path),
    /// Connect thousands of agents without a kernel to a controller: change one, change many, cut all of them off.
    Fleet(Fleet),
}

#[derive(Debug, Args)]
struct Fleet {
    /// Numbers of agents.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000")]
    agents: Vec<usize>,
    /// Joins and departures of each.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// With `json` the findings alone are on standard output.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Args)]
struct Path {
    /// Paired rounds; medians are printed.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// How long each measurement of a round takes, in milliseconds.
    #[arg(long, default_value_t = 500)]
    period_ms: u64,
    /// With `json` the findings alone are on standard output.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Args)]
struct Pods {
    /// Pods on the node.
    #[arg(long, default_value_t = 110)]
    pods: usize,
    /// Rounds of each measurement; medians are printed.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// What to print on standard output; with `json` the findings alone.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What has to be done outside the sandbox, which has no way out.
pub(super) fn prepare(arguments: &Arguments) -> Result<()> {
    match &arguments.bench {
        Bench::Peers(_) | Bench::Fleet(_) | Bench::Path(_) => Ok(()),
        Bench::Pods(_) => pods::build_reference(),
    }
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
    // What the measured loop has to say is asked for by WEFT_LOG only: at its default it would mix with the findings.
    if std::env::var_os("WEFT_LOG").is_some() {
        weft_program::log::init(weft_program::log::Format::Text);
    }
    let done = match &arguments.bench {
        Bench::Peers(arguments) => measure_peers(arguments),
        Bench::Pods(arguments) => measure_pods(arguments),
        Bench::Fleet(arguments) => measure_fleet(arguments),
        Bench::Path(arguments) => measure_path(arguments),
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

fn measure_pods(arguments: &Pods) -> Result<()> {
    ensure!((1..=250).contains(&arguments.pods), "--pods takes a number from 1 to 250");
    let plan = pods::Plan { pods: arguments.pods, rounds: arguments.rounds.max(1) };
    let findings = harness::run(async || pods::run(&plan, &|line| eprintln!("{line}")).await)?;
    if arguments.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
        return Ok(());
    }
    println!("{} pods, milliseconds, medians of {} rounds:", plan.pods, plan.rounds);
    println!("                   weft p50   weft p99  floor p99  reference p99");
    let rows = [("ADD at once", &findings.concurrent), ("ADD in a row", &findings.sequential)];
    for (what, figures) in rows.into_iter().chain([("DEL at once", &findings.delete)]) {
        println!(
            "  {what:<14} {:>10.2} {:>10.2} {:>10.2} {:>14.2}",
            figures.weft_p50_ms, figures.weft_p99_ms, figures.floor_p99_ms, figures.reference_p99_ms
        );
    }
    Ok(())
}

fn measure_fleet(arguments: &Fleet) -> Result<()> {
    let within = 1..=20_000;
    ensure!(arguments.agents.iter().all(|agents| within.contains(agents)), "--agents takes numbers from 1 to 20000");
    let plan = fleet::Plan { agents: arguments.agents.clone(), rounds: arguments.rounds };
    let findings = harness::run(async || fleet::run(&plan, &|line| eprintln!("{line}")).await)?;
    if arguments.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    }
    Ok(())
}

fn measure_path(arguments: &Path) -> Result<()> {
    ensure!((50..=60_000).contains(&arguments.period_ms), "--period-ms takes a number from 50 to 60000");
    let period = std::time::Duration::from_millis(arguments.period_ms);
    let plan = path::Plan { rounds: arguments.rounds.max(1), period };
    let findings = harness::run(async || path::run(&plan, &|line| eprintln!("{line}")).await)?;
    if arguments.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    }
    Ok(())
}
