//! Weft's agent.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use weft_agent::{
    clean_up::cleanup,
    cli::{Cli, Command, Source},
    config::Config,
    run,
};
use weft_program::log;

fn main() -> ExitCode {
    match carry_out(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(cli: Cli) -> anyhow::Result<()> {
    let Cli { log_format, command } = cli;
    let load = |source: Source| -> anyhow::Result<Config> {
        let config = source.load()?;
        log::init(log_format.unwrap_or(config.log_format));
        Ok(config)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Run(source) => runtime.block_on(run::run(load(source)?)),
        Command::Check(source) => runtime.block_on(run::check(&load(source)?)),
        Command::Cleanup(source) => runtime.block_on(cleanup(load(source)?)),
        Command::Generate(generate) => generate.run(Cli::command()),
    }
}
