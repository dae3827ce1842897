//! The reference plugins, built from their Go module, for comparison only.
//!
//! Owns their version and where they are kept: beside this program, below the build's own directory.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};

const MODULE: &str = "github.com/containernetworking/plugins";
const VERSION: &str = "v1.9.1";
/// What the bench and the tests with a real runtime need.
const PLUGINS: [(&str, &str); 6] = [
    ("main", "ptp"),
    ("main", "loopback"),
    ("ipam", "host-local"),
    ("meta", "portmap"),
    ("meta", "bandwidth"),
    ("meta", "firewall"),
];

/// Where they are.
///
/// # Errors
/// Where this program cannot tell its own place.
pub fn directory() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell which program is running")?;
    let build = own.ancestors().find(|place| place.join("CACHEDIR.TAG").is_file());
    let build = build.or_else(|| own.parent()).context("the running program has no directory")?;
    Ok(build.join("reference-plugins").join(VERSION))
}

/// Builds what is missing. To be called outside of a lab, which has no way to the module's source.
///
/// # Errors
/// Where Go is missing or a build fails.
pub fn build() -> Result<()> {
    let directory = directory()?;
    let missing: Vec<_> = PLUGINS.iter().filter(|(_, name)| !directory.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let go = Command::new("go").arg("version").output();
    ensure!(
        go.is_ok_and(|go| go.status.success()),
        "the reference plugins are built with Go, which is not here: install golang-go with this system's package \
         manager, or from go.dev; nothing but this comparison needs it"
    );
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    eprintln!("weft-lab: building the reference plugins {VERSION} into {}", directory.display());
    for (kind, name) in missing {
        let mut command = Command::new("go");
        command.args(["install", "-trimpath", "-ldflags=-s -w", &format!("{MODULE}/plugins/{kind}/{name}@{VERSION}")]);
        command.env("GOBIN", &directory).env("CGO_ENABLED", "0");
        let done = command.output().context("cannot start go")?;
        if !done.status.success() {
            bail!("go install of {name} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
    }
    Ok(())
}
