//! Completion scripts and manual pages, from the one definition of a command line.
//!
//! Owns the two subcommands that every program has for it. Must never describe an option a second time.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::Subcommand;

/// Subcommands for whoever installs a program; flatten them into its own.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Print a completion script for a shell; where shells look for it, `deploy/hosts/install.sh` puts it.
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one a command, into a directory.
    Man {
        /// Where to, such as /usr/local/share/man/man1.
        directory: PathBuf,
    },
}

impl Generate {
    /// Does it for the program that `command` defines.
    ///
    /// # Errors
    /// Where a page cannot be written; the text names the directory.
    pub fn run(&self, mut command: clap::Command) -> anyhow::Result<()> {
        match self {
            Self::Completion { shell } => {
                let name = command.get_name().to_owned();
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut command, name, &mut script);
                io::stdout().write_all(&script).context("the completion script cannot be printed")
            }
            Self::Man { directory } => fs::create_dir_all(directory)
                .and_then(|()| clap_mangen::generate_to(command, directory))
                .with_context(|| format!("the manual pages cannot be written to {}", directory.display())),
        }
    }
}
