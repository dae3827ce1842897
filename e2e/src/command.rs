//! The command `weft-lab`.
//!
//! Owns its arguments and exit codes: 0 success, 1 something did not work, 2 wrong usage, 130 and 143 ended by Ctrl-C and
//! SIGTERM. Outside it supervises; the work is done by the same program inside the sandbox.

mod bench;
mod enter;
mod services;
mod supervise;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    bench::pods,
    demo::{self, Outcome, Screen},
    lab::{harness, print_logs, sandbox},
};

#[derive(Debug, Parser)]
#[command(name = "weft-lab", about = "Weft's lab: clusters in network namespaces of this machine", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job: two subnets, a router, a controller, four nodes, eight pods that reach each other.
    Demo(Demo),
    /// Ask through Services that kube-proxy's own binary programs on two nodes of Weft's, case by case.
    Services(services::Arguments),
    /// Measure what Weft costs, beside the floor of the same run.
    Bench(bench::Arguments),
    /// Build the reference plugins that the bench of pods and the tests with containerd need, and say where they are.
    ReferencePlugins,
    /// Run a command in a namespace of a lab that `demo --keep` holds.
    In(enter::In),
}

#[derive(Debug, Args)]
struct Demo {
    /// Leave the lab up until Ctrl-C and say what to try.
    #[arg(long)]
    keep: bool,
    /// What to print on standard output; with `json`, progress goes to standard error.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Parses the arguments and does what they say.
pub fn run() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == pods::FLOOR) {
        return pods::run_floor(words);
    }
    let done = match Arguments::parse().command {
        Command::Demo(demo) if sandbox::is_inside() => Ok(show(&demo)),
        Command::Bench(arguments) if sandbox::is_inside() => bench::run(&arguments),
        Command::Bench(arguments) => bench::prepare(&arguments).and_then(|()| supervise::run()),
        Command::Services(arguments) if sandbox::is_inside() => services::run(&arguments),
        Command::Demo(_) | Command::Services(_) => supervise::run(),
        Command::ReferencePlugins => reference_plugins(),
        Command::In(arguments) => enter::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("weft-lab: {error:#}");
        ExitCode::FAILURE
    })
}

fn show(arguments: &Demo) -> ExitCode {
    let json = arguments.output == Output::Json;
    let screen = Screen::new(json);
    let mut outcome = Outcome::default();
    let done: Result<()> = harness::run(async || {
        let cluster = demo::run(&screen, &mut outcome).await?;
        if json {
            println!("{}", serde_json::to_string_pretty(&outcome)?);
        }
        if arguments.keep {
            demo::invite(&screen, &cluster);
            std::future::pending::<()>().await;
        }
        Ok(())
    });
    match done {
        Ok(()) => {
            screen.line("\nDone: everything worked, and nothing is left of it.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_logs();
            eprintln!("\nweft-lab: the demo failed: {error:#}");
            if json {
                println!("{}", serde_json::to_string_pretty(&outcome).expect("plain data"));
            }
            ExitCode::FAILURE
        }
    }
}

fn reference_plugins() -> Result<ExitCode> {
    pods::build_reference()?;
    println!("{}", pods::reference_plugins()?.display());
    Ok(ExitCode::SUCCESS)
}
