//! `weft`: the operators' command.
//!
//! Owns how things look to people and to scripts; must never decide anything: it asks a controller, the
//! Kubernetes API, or a node's agent.

mod args;
mod check;
mod connect;
mod kubernetes;
mod node;
mod output;
mod peers;
mod status;
mod token;
mod uninstall;

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Cli, Command, NodeCommand, TokenCommand};

fn main() -> ExitCode {
    let cli = Cli::read();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("weft: {error:#}");
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Peers(args) => peers::run(&cli.target, &args).await,
        Command::Status(args) => status::run(&cli.target, args.output).await,
        Command::Token { command: TokenCommand::Create(args) } => token::create(&cli.target, &args).await,
        Command::Node { command: NodeCommand::Delete(args) } => node::delete(&cli.target, &args).await,
        Command::Uninstall(args) => uninstall::run(&cli.target.kubernetes, &args).await,
        Command::Check { command } => check::run(&cli.target.kubernetes.namespace, &command).await,
        Command::Generate(generate) => generate.run(Cli::command()),
    }
}
