//! The commands of README.md, as a reader copies them.
//!
//! A fenced block behind a comment `<!-- on: HOST -->` is what that host's administrator types.

use anyhow::{Context, Result, ensure};

/// All of it.
pub(crate) const README: &str = include_str!("../../../README.md");

/// One block.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) host: String,
    pub(crate) commands: String,
}

/// The blocks of a section, in order.
pub(crate) fn blocks(section: &str) -> Result<Vec<Block>> {
    let (_, rest) = README.split_once(&format!("\n## {section}\n")).with_context(|| format!("no section {section}"))?;
    let text = rest.split_once("\n## ").map_or(rest, |(text, _)| text);
    let mut blocks = Vec::new();
    for part in text.split("<!-- on: ").skip(1) {
        let (host, rest) = part.split_once(" -->\n```sh\n").context("no ```sh block right behind a comment `on:`")?;
        let (commands, _) = rest.split_once("\n```").with_context(|| format!("the block for {host} has no end"))?;
        blocks.push(Block { host: host.to_owned(), commands: commands.to_owned() });
    }
    ensure!(text.matches("```sh").count() == blocks.len(), "a block of section {section} is for no host");
    Ok(blocks)
}
