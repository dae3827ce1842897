//! Weft on plain hosts: `deploy/hosts`, and what README.md says about it.

mod docker;
mod install;
mod newcomer;
mod options;
mod readme;
mod shell;
mod units;

use std::path::{Path, PathBuf};

/// What is installed.
pub(crate) const PROGRAMS: [&str; 4] = ["weft", "weft-controller", "weft-agent", "weft-cni"];

/// The checkout.
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned()
}
