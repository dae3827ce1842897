//! One side of the comparison: how it attaches a pod and detaches it.
//!
//! Owns the namespaces of its pods, made as runtimes make them: by a thread, then mounted.

use std::{
    fs::{self, File},
    io::Write,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    mount::{UnmountFlags, mount_bind},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use serde_json::{Value, json};

use super::{floor, reference};
use crate::{
    cluster::Agent,
    lab::{Namespace, sandbox::NETNS, wait},
};

/// What is compared. Pods have numbers; steps of different pods run on threads of their own, at once.
pub(super) trait Side: Sync {
    /// Makes the pod's namespace and attaches it.
    fn add(&self, number: usize) -> Result<()>;

    /// Detaches the pod and takes its namespace away.
    fn delete(&self, number: usize) -> Result<()>;

    /// Interfaces of its pods that are still there.
    fn links_left(&self) -> Result<usize>;
}

/// A CNI plugin, run as a runtime runs it.
pub(super) struct Plugin {
    host: Arc<Namespace>,
    programs: PathBuf,
    config: Value,
    prefix: &'static str,
}

/// The floor.
pub(super) struct Floor {
    host: Arc<Namespace>,
    program: PathBuf,
}

impl Plugin {
    /// Weft's, as its agent installed it.
    pub(super) async fn weft(agent: &Agent) -> Result<Self> {
        let directory = agent.cni_configuration();
        let file = directory.join("10-weft.conflist");
        let what = format!("{}", file.display());
        let text = wait::until(&what, wait::PATIENCE, async || Ok(fs::read(&file)?)).await?;
        let list: Value = serde_json::from_slice(&text).context("the CNI configuration is not JSON")?;
        let mut config = list["plugins"][0].clone();
        config["name"] = list["name"].clone();
        config["cniVersion"] = list["cniVersion"].clone();
        Ok(Self { host: agent.host().net(), programs: agent.cni_programs(), config, prefix: "wpod" })
    }

    /// `ptp` with `host-local`. It gets an IPv4 address only, where Weft's pods have two: less to do.
    pub(super) fn reference(host: &Arc<Namespace>) -> Result<Self> {
        let programs = reference::directory()?;
        ensure!(
            programs.join("ptp").is_file(),
            "the reference plugins are missing in {}: run this bench through `weft-lab bench pods`",
            programs.display()
        );
        let config = json!({
            "cniVersion": "1.0.0", "name": "reference", "type": "ptp", "mtu": 1450,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/lab/host-local",
                "ranges": [[{"subnet": "10.250.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        Ok(Self { host: Arc::clone(host), programs, config, prefix: "veth" })
    }

    fn run(&self, verb: &str, number: usize) -> Result<()> {
        let kind = self.config["type"].as_str().context("a plugin without a type")?;
        let mut command = Command::new(self.programs.join(kind));
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_CONTAINERID", format!("{}-{number:04}", self.prefix));
        command.env("CNI_NETNS", self.path(number)).env("CNI_IFNAME", "eth0").env("CNI_PATH", &self.programs);
        finish(command, self.config.to_string().as_bytes()).with_context(|| format!("{verb} of pod {number}"))
    }

    fn path(&self, number: usize) -> PathBuf {
        namespace_path(self.prefix, number)
    }
}

impl Side for Plugin {
    fn add(&self, number: usize) -> Result<()> {
        enter(&self.host)?;
        mount_own(&self.path(number))?;
        enter(&self.host)?;
        self.run("ADD", number)
    }

    fn delete(&self, number: usize) -> Result<()> {
        enter(&self.host)?;
        self.run("DEL", number)?;
        unmount(&self.path(number))
    }

    fn links_left(&self) -> Result<usize> {
        links(&self.host, self.prefix)
    }
}

impl Floor {
    pub(super) fn new(host: &Arc<Namespace>) -> Result<Self> {
        let program = std::env::current_exe().context("cannot tell which program is running")?;
        Ok(Self { host: Arc::clone(host), program })
    }

    fn run(&self, verb: &str, number: usize) -> Result<()> {
        enter(&self.host)?;
        let mut command = Command::new(&self.program);
        command.env_clear().args([floor::COMMAND, verb, &format!("floor{number}")]);
        command.arg(namespace_path("floor", number));
        finish(command, &[]).with_context(|| format!("{verb} of pod {number}"))
    }
}

impl Side for Floor {
    fn add(&self, number: usize) -> Result<()> {
        self.run("add", number)
    }

    fn delete(&self, number: usize) -> Result<()> {
        self.run("delete", number)
    }

    fn links_left(&self) -> Result<usize> {
        links(&self.host, "floor")
    }
}

/// Runs a program to its end; its standard output tells what went wrong, where something did.
fn finish(mut command: Command, input: &[u8]) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // A child that does not read its input may close it early.
    let _ = child.stdin.take().expect("standard input is piped").write_all(input);
    let done = child.wait_with_output()?;
    ensure!(
        done.status.success(),
        "{}: {}{}",
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(())
}

/// Moves this thread, and the children it starts, into the host.
fn enter(host: &Namespace) -> Result<()> {
    move_into_link_name_space(host.fd(), Some(LinkNameSpaceType::Network)).context("cannot enter the host")
}

fn namespace_path(prefix: &str, number: usize) -> PathBuf {
    Path::new(NETNS).join(format!("bench-{prefix}-{number}"))
}

/// Gives this thread a namespace of its own and mounts it.
#[allow(unsafe_code)]
pub(super) fn mount_own(path: &Path) -> Result<()> {
    File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    // SAFETY: only the network namespace of this very thread changes; no file descriptor table is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("unshare(CLONE_NEWNET)")?;
    mount_bind("/proc/thread-self/ns/net", path).with_context(|| format!("cannot mount {}", path.display()))
}

/// Takes a namespace away.
pub(super) fn unmount(path: &Path) -> Result<()> {
    rustix::mount::unmount(path, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {}", path.display()))?;
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
}

fn links(host: &Arc<Namespace>, prefix: &'static str) -> Result<usize> {
    let host = Arc::clone(host);
    let text = std::thread::spawn(move || -> Result<String> {
        move_into_link_name_space(host.fd().as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(fs::read_to_string("/proc/thread-self/net/dev")?)
    });
    let text = text.join().expect("no panic while reading a file")?;
    Ok(text.lines().filter(|line| line.trim_start().starts_with(prefix)).count())
}
