//! Weft's agent.

use clap::Parser;
use weft_agent::{
    cli::{Cli, Command, LogFormat},
    run,
};

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match cli.command {
        Command::Run(source) => runtime.block_on(run::run(source.load()?)),
        Command::Check(source) => runtime.block_on(run::check(&source.load()?)),
        Command::Cleanup(source) => runtime.block_on(run::cleanup(source.load()?)),
    }
}
