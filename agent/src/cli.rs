//! The agent's command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use weft_program::{Generate, log::Format};

use crate::config::{Config, Options};

/// Weft's agent: programs this node's kernel from the membership that a controller announces.
#[derive(Debug, Parser)]
#[command(name = "weft-agent", version)]
pub struct Cli {
    /// Form of the log on standard error [default: text].
    #[arg(long, value_enum, global = true)]
    pub log_format: Option<Format>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the agent can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM. Stopping leaves the kernel as it is, so that pods stay connected.
    Run(Source),
    /// Check the configuration and this host, print every problem, change nothing.
    Check(Source),
    /// Remove everything Weft made on this host: kernel objects, CNI files and state. Not while an agent runs.
    Cleanup(Source),
    /// For whoever installs this program.
    #[command(flatten)]
    Generate(Generate),
}

/// Where the configuration comes from.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// YAML file with the same names in camelCase; flags win over it.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The flags.
    #[command(flatten)]
    pub options: Options,
}

impl Source {
    /// Merges and checks.
    pub fn load(self) -> anyhow::Result<Config> {
        Ok(self.options.load(self.config.as_deref())?)
    }
}
