//! Weft's agent.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use weft_agent::{
    clean_up::cleanup,
    cli::{Cli, Command},
    config::{Config, Options},
    run,
};
use weft_program::{
    config::{Source, reference},
    log,
};

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
    let load = |source: Source<Options>| -> anyhow::Result<Config> {
        let (options, problems) = source.read();
        let config = Config::check(&options, problems)?;
        log::init(config.log_format);
        Ok(config)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Command::Run(source) => runtime.block_on(run::run(load(source)?)),
        Command::Check(source) => runtime.block_on(run::check(&load(source)?)),
        Command::Cleanup(source) => runtime.block_on(cleanup(load(source)?)),
        Command::Reference => {
            print!("{}", reference::<Options>("weft-agent"));
            Ok(())
        }
        Command::Generate(generate) => generate.run(Cli::command()),
    }
}
