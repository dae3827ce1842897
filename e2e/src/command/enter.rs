//! The way into a lab that is kept: finds its first process and runs a command in one of its namespaces.
//!
//! Owns finding the lab; must never change it.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::lab::{CONTROL, sandbox};

/// Arguments of `weft-lab in`.
#[derive(Debug, Args)]
pub(super) struct In {
    /// The process that holds the lab, where there are several.
    #[arg(long)]
    lab: Option<u32>,
    /// A namespace of the lab: a node, `control`, `outside`, `router` or a pod's.
    name: String,
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Replaces this process by the command.
pub(super) fn run(arguments: &In) -> Result<ExitCode> {
    let lab = match arguments.lab {
        Some(lab) => lab,
        None => find()?,
    };
    let proc = PathBuf::from(format!("/proc/{lab}"));
    let namespace = Path::new(sandbox::NETNS).join(&arguments.name);
    let outside = proc.join("root").join(namespace.strip_prefix("/").expect("an absolute path"));
    if !outside.exists() {
        bail!("the lab has no namespace {}; `weft-lab in router ls {}` lists them", arguments.name, sandbox::NETNS);
    }
    let mut command = Command::new("nsenter");
    command.args(["--target", &lab.to_string(), "--mount", "--pid"]);
    if fs::read_link(proc.join("ns/user"))? != fs::read_link("/proc/self/ns/user")? {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.arg("--").arg("nsenter").arg(format!("--net={}", namespace.display())).arg("--").args(&arguments.command);
    settings(&mut command, &arguments.name)?;
    Err(command.exec()).context("cannot start nsenter(1) of util-linux")
}

/// The environment in which `weft` without arguments asks the right one.
fn settings(command: &mut Command, name: &str) -> Result<()> {
    let own = env::current_exe().context("cannot tell which program is running")?;
    let beside = own.parent().context("the running program has no directory")?;
    let path = env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", beside.display())).env("PS1", format!("{name} # "));
    let directory = Path::new(sandbox::STATE).join("hosts");
    if name == CONTROL {
        let data = directory.join(CONTROL).join("controller");
        command.env("WEFT_IDENTITY", data.join("operator")).env("WEFT_CONTROLLER", crate::cluster::DEFAULT_CONTROLLER);
    } else {
        command.env("WEFT_SOCKET", directory.join(name).join("agent/agent.sock"));
    }
    Ok(())
}

/// The only lab of this user.
fn find() -> Result<u32> {
    let entries = fs::read_dir("/proc").context("cannot list processes")?.flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let labs: Vec<_> = ids.filter(|id| is_lab(*id)).collect();
    match labs[..] {
        [lab] => Ok(lab),
        [] => bail!("no lab is up: start one with `weft-lab demo --keep`"),
        _ => bail!("several labs are up: choose one with --lab and one of {labs:?}"),
    }
}

/// True for the first process of a sandbox.
fn is_lab(id: u32) -> bool {
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let first = ids.split_whitespace().count() > 1 && ids.split_whitespace().last() == Some("1");
    first && sandbox::is_marked(&environment)
}
