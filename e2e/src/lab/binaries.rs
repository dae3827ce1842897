//! Where the programs under test are.
//!
//! Owns finding them beside the running executable, and an older build of them where somebody named one. Must never look into
//! PATH: a lab tests what was built.

use std::{env, path::PathBuf};

use anyhow::{Context, Result, bail};

/// The directory of an older build, as `./dev older` makes it.
const OLDER: &str = "WEFT_OLDER";

/// Which build of the programs runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Build {
    /// The one under test.
    #[default]
    Present,
    /// An earlier version.
    Older,
}

impl Build {
    /// The path of one of our programs.
    ///
    /// # Errors
    /// Where it was not built, or nobody named an older build.
    pub fn find(self, name: &str) -> Result<PathBuf> {
        match self {
            Self::Present => find(name),
            Self::Older => older(name),
        }
    }
}

fn older(name: &str) -> Result<PathBuf> {
    let Some(directory) = env::var_os(OLDER) else {
        bail!("{OLDER} names no directory with an older build: `./dev older` makes one and runs these tests");
    };
    let path = PathBuf::from(directory).join(name);
    if !path.is_file() {
        bail!("{} is not there: `./dev older` builds it", path.display());
    }
    Ok(path)
}

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
