//! The agent's command line.

use clap::{Parser, Subcommand};
use weft_program::{Generate, config::Source};

use crate::config::Options;

/// Weft's agent: programs this node's kernel from the membership that a controller announces.
#[derive(Debug, Parser)]
#[command(name = "weft-agent", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM. Stopping leaves the kernel as it is, so that pods stay connected.
    Run(Source<Options>),
    /// Check the configuration and this host, print every problem, change nothing.
    Check(Source<Options>),
    /// Remove everything Weft made on this host: kernel objects, CNI files and state. Not while an agent runs.
    Cleanup(Source<Options>),
    /// Print the options as a page in Markdown.
    Reference,
    /// For whoever installs this program.
    #[command(flatten)]
    Generate(Generate),
}
