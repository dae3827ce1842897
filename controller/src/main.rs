//! The `weft-controller` binary: parses the command line and calls the library.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use weft_controller::{Config, InitOptions, OperatorOptions, Options, UninstallOptions};
use weft_program::{
    Generate,
    config::{Source, reference},
    log,
};

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
    Init(Box<InitOptions>),
    /// Runs the controller
    Run(Source<Options>),
    /// Checks a configuration and tells everything that is wrong with it
    CheckConfig(Source<Options>),
    /// Makes an operator certificate for the command `weft`
    Operator(OperatorOptions),
    /// Prints the definitions of the Kubernetes resources, as the chart installs them
    Crds,
    /// Prints the options of `run` as a page in Markdown
    Reference,
    /// Has every node of a Kubernetes cluster cleaned up before Weft is removed from it, and waits for that
    Uninstall(UninstallOptions),
    /// For whoever installs this program
    #[command(flatten)]
    Generate(Generate),
}

fn load(source: &Source<Options>) -> anyhow::Result<Config> {
    let (options, problems) = source.read();
    Ok(Config::check(&options, problems)?)
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
            load(&options)?;
            println!("The configuration is sound.");
            Ok(())
        }
        Command::Operator(options) => weft_controller::issue_operator(&options),
        Command::Crds => {
            print!("{}", weft_api::crds_yaml());
            Ok(())
        }
        Command::Reference => {
            print!("{}", reference::<Options>("weft-controller"));
            Ok(())
        }
        Command::Uninstall(options) => runtime()?.block_on(weft_controller::uninstall(options)),
        Command::Generate(generate) => generate.run(Cli::command()),
        Command::Run(options) => serve(load(&options)?),
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
