//! The reference plugins and cnitool, built from their Go modules, for comparison and tests only.
//!
//! Owns their versions and where they are kept: beside this program, below the build's own directory.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};

const MODULE: &str = "github.com/containernetworking/plugins";
const VERSION: &str = "v1.9.1";
const CNITOOL: &str = "github.com/containernetworking/cni/cnitool";
const CNITOOL_VERSION: &str = "v1.3.1";
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

/// Where cnitool is: the specification's own runtime, for people and tests.
///
/// # Errors
/// Where this program cannot tell its own place.
pub fn cnitool() -> Result<PathBuf> {
    Ok(directory()?.with_file_name(format!("cnitool-{CNITOOL_VERSION}")).join("cnitool"))
}

/// Builds what is missing. To be called outside of a lab, which has no way to the module's source.
///
/// # Errors
/// Where Go is missing or a build fails.
pub fn build() -> Result<()> {
    let directory = directory()?;
    let package = |(kind, name)| (directory.join(name), format!("{MODULE}/plugins/{kind}/{name}@{VERSION}"));
    let mut missing: Vec<_> = PLUGINS.into_iter().map(package).collect();
    missing.push((cnitool()?, format!("{CNITOOL}@{CNITOOL_VERSION}")));
    missing.retain(|(program, _)| !program.is_file());
    if missing.is_empty() {
        return Ok(());
    }
    let go = Command::new("go").arg("version").output();
    ensure!(
        go.is_ok_and(|go| go.status.success()),
        "the reference plugins are built with Go, which is not here: install golang-go with this system's package \
         manager, or from go.dev; nothing but this comparison needs it"
    );
    for (program, package) in missing {
        let into = program.parent().expect("a program has a directory");
        fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
        eprintln!("weft-lab: building {package} into {}", into.display());
        let mut command = Command::new("go");
        command.args(["install", "-trimpath", "-ldflags=-s -w", &package]);
        command.env("GOBIN", into).env("CGO_ENABLED", "0");
        let done = command.output().context("cannot start go")?;
        if !done.status.success() {
            bail!("go install of {package} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
    }
    Ok(())
}
