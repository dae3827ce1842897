//! The `weft-controller` binary: parses the command line and calls the library.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use weft_controller::{Config, InitOptions, OperatorOptions, Options, UninstallOptions};
use weft_program::{Generate, log};

/// Weft's controller: gives every node its pod CIDRs and tells every node about every other.
#[derive(Debug, Parser)]
#[command(name = "weft-controller", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a new cluster: CA, operator certificate and configuration, in a new directory
    Init(InitOptions),
    /// Runs the controller
    Run(RunOptions),
    /// Checks a configuration and tells everything that is wrong with it
    CheckConfig(RunOptions),
    /// Makes an operator certificate for the command `weft`
    Operator(OperatorOptions),
    /// Prints the definitions of the Kubernetes resources, as the chart installs them
    Crds,
    /// Has every node of a Kubernetes cluster cleaned up before Weft is removed from it, and waits for that
    Uninstall(UninstallOptions),
    /// For whoever installs this program
    #[command(flatten)]
    Generate(Generate),
}

#[derive(Debug, clap::Args)]
struct RunOptions {
    /// YAML file with the same options in camelCase; flags win
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl RunOptions {
    fn load(self) -> anyhow::Result<Config> {
        Ok(Config::load(self.options, self.config.as_deref())?)
    }
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(options) => {
            let config = weft_controller::init(&options)?;
            println!("Run it with: weft-controller run --config {}", config.display());
            Ok(())
        }
        Command::CheckConfig(options) => {
            options.load()?;
            println!("The configuration is sound.");
            Ok(())
        }
        Command::Operator(options) => weft_controller::issue_operator(&options),
        Command::Crds => {
            print!("{}", weft_api::crds_yaml());
            Ok(())
        }
        Command::Uninstall(options) => runtime()?.block_on(weft_controller::uninstall(options)),
        Command::Generate(generate) => generate.run(Cli::command()),
        Command::Run(options) => serve(options.load()?),
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    log::init(config.log_format);
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        weft_controller::run(config, shutdown).await
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}
