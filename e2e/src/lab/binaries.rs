//! Where the programs under test are.
//!
//! Owns finding them beside the running executable. Must never look into PATH: a lab tests what was built.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail};

/// The path of one of our programs: in the directory of the running executable or, for tests, which cargo puts into
/// `deps`, in the one above.
///
/// # Errors
/// Where it was not built.
pub fn find(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell which program is running")?;
    let beside = own.parent().context("the running program has no directory")?;
    let directories = [Some(beside), beside.parent()];
    let candidates: Vec<_> = directories.into_iter().flatten().map(|directory| directory.join(name)).collect();
    match candidates.iter().find(|path| path.is_file()) {
        Some(found) => Ok(found.clone()),
        None => bail!("{name} was not built: run `cargo build --workspace` first (looked for {candidates:?})"),
    }
}
