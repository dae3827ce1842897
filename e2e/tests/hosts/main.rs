//! Weft on plain hosts: `deploy/hosts`, and what README.md says about it; and beside what else manages a host's network.
//!
//! What needs real firewalls, and root, is part of `./dev managers`, which runs all that is ignored here; the rest is part of
//! `./dev test`.

mod docker;
mod install;
mod managers;
mod newcomer;
mod options;
mod readme;
mod reasons;
mod shell;
mod units;

use std::path::{Path, PathBuf};

/// What is installed.
pub(crate) const PROGRAMS: [&str; 4] = ["weft", "weft-controller", "weft-agent", "weft-cni"];

/// The checkout.
pub(crate) fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned()
}
