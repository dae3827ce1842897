//! `./dev cluster up` on machines that have half of Docker, or none.
//!
//! Owns the fakes: programs that stand in for Docker, dpkg and apt-get on a PATH that has nothing else of them. Must never
//! install anything.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::checkout;

/// What `./dev` itself needs to get as far as the packages.
const REAL: [&str; 5] = ["bash", "dirname", "env", "grep", "id"];
/// Ends the run at the first package that it is asked for.
const APT_GET: &str = "case $1 in install) echo \"asked for: $*\" >&2; exit 100 ;; esac";

/// A machine by the programs on its PATH.
struct Machine(PathBuf);

impl Machine {
    fn with(name: &str, programs: &[(&str, &str)]) -> Result<Self> {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("docker-{name}"));
        let _not_there = fs::remove_dir_all(&place);
        fs::create_dir_all(&place)?;
        for real in REAL {
            let found =
                ["/usr/bin", "/bin"].iter().map(|directory| Path::new(directory).join(real)).find(|it| it.exists());
            symlink(found.with_context(|| format!("{real} is not here"))?, place.join(real))?;
        }
        let all = programs.iter().chain(&[("apt-get", APT_GET), ("sudo", "exec \"$@\"")]);
        for (program, body) in all {
            let path = place.join(program);
            fs::write(&path, format!("#!/bin/bash\n{body}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self(place))
    }

    /// What bringing a cluster up says before it fails.
    fn cluster_up(&self) -> Result<String> {
        let done = Command::new(checkout().join("dev")).args(["cluster", "up"]).env("PATH", &self.0).output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(!done.status.success(), "there is no Docker, and it went on: {said}");
        Ok(said)
    }
}

const SILENT: (&str, &str) = ("docker", "exit 1");
const NO_PACKAGE: (&str, &str) = ("dpkg-query", "exit 1");

#[test]
fn a_client_without_a_daemon_is_no_docker() -> Result<()> {
    let said = Machine::with("client", &[SILENT, NO_PACKAGE])?.cluster_up()?;
    ensure!(said.contains("asked for: install") && said.contains("docker.io"), "{said}");
    Ok(())
}

#[test]
fn a_daemon_without_its_client_gets_the_client() -> Result<()> {
    let said = Machine::with("daemon", &[("dockerd", "exit 1"), NO_PACKAGE])?.cluster_up()?;
    ensure!(said.contains("asked for: install") && said.contains("docker-cli"), "{said}");
    Ok(())
}

#[test]
fn debians_docker_is_not_put_over_dockers_own() -> Result<()> {
    // The client alone, as far as dpkg knows.
    let theirs = ("dpkg-query", "echo installed; exit 1");
    let said = Machine::with("theirs", &[SILENT, theirs])?.cluster_up()?;
    ensure!(said.contains("install docker-ce, docker-ce-cli and containerd.io"), "{said}");
    ensure!(!said.contains("asked for"), "Debian's package was asked for: {said}");
    Ok(())
}

#[test]
fn a_docker_that_answers_needs_nothing() -> Result<()> {
    let said = Machine::with("whole", &[("docker", "exit 0"), NO_PACKAGE])?.cluster_up()?;
    // The next thing that is missing.
    ensure!(!said.contains("docker.io") && said.contains("debootstrap"), "{said}");
    Ok(())
}
