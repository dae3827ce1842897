//! Completion scripts and manual pages, from the one definition of the command line.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::args::Cli;

/// Prints a completion script.
pub(crate) fn completion(shell: clap_complete::Shell) -> anyhow::Result<()> {
    clap_complete::generate(shell, &mut Cli::command(), "weft", &mut std::io::stdout());
    Ok(())
}

/// Writes a manual page a command into `directory`.
pub(crate) fn man(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("the manual pages cannot be written to {}", directory.display()))
}
