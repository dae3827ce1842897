//! The sandbox: namespaces of its own for one lab, entered by starting the same program again through unshare(1).
//!
//! Owns how a lab process comes to life and how it goes: everything of a lab lives in a private network, mount and PID
//! namespace, so the death of its first process, by whatever hand, ends every other one and with them every namespace,
//! link and mount. Must never write anywhere but in the private mount namespace.

use std::{
    ffi::OsStr,
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::{
    mount::{MountFlags, mount},
    process::{Signal, set_parent_process_death_signal},
};

/// Set in the environment of a process that is inside.
const INSIDE: &str = "WEFT_LAB_INSIDE";
/// The bit of CAP_SYS_ADMIN in a capability set (include/uapi/linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;
/// Where all state of a lab is: a tmpfs that only its mount namespace sees.
pub const STATE: &str = "/run/lab";
/// Where network namespaces are mounted, so that `ip netns exec` finds them.
pub const NETNS: &str = "/run/netns";

/// True in a process that was started by [`command`].
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// True where `environment`, as /proc/PID/environ shows it, is that of a process inside a sandbox.
pub fn is_marked(environment: &[u8]) -> bool {
    let mark = format!("{INSIDE}=1");
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// A command that runs `program` as the first process of a new sandbox. It dies with the thread that spawns it.
#[allow(unsafe_code)]
pub fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("unshare");
    if !has_sys_admin() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(program).args(arguments).env(INSIDE, "1");
    // SAFETY: prctl(PR_SET_PDEATHSIG) is async-signal-safe, takes no lock and allocates nothing, so it may run between
    // fork and exec.
    unsafe {
        command.pre_exec(|| set_parent_process_death_signal(Some(Signal::KILL)).map_err(Into::into));
    }
    command
}

/// Tries a sandbox out.
///
/// # Errors
/// Says what this machine forbids and how to go on.
pub fn check() -> Result<()> {
    let tried = command("true", [] as [&str; 0]).stdin(Stdio::null()).output();
    match tried {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(Output { stderr, .. }) => bail!(explain(String::from_utf8_lossy(&stderr).trim())),
        Err(error) => bail!(explain(&format!("cannot start unshare(1) of util-linux: {error}"))),
    }
}

/// Prepares the inside: a private /run with the lab's directories. Call once, before any [`super::Namespace`].
///
/// # Errors
/// Where it is not inside, or a mount is refused.
pub fn prepare() -> Result<()> {
    if !is_inside() || rustix::process::getpid().as_raw_nonzero().get() != 1 {
        bail!("a lab must be started in its own namespaces: run it through `weft-lab` or lab_test!");
    }
    mount("weft-lab", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755"))
        .context("cannot mount a private tmpfs on /run for the lab's state")?;
    for directory in [NETNS, STATE] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {directory}"))?;
    }
    Ok(())
}

fn has_sys_admin() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|bits| bits >> CAP_SYS_ADMIN & 1 == 1)
}

/// Which switch of the system forbids it, with the way out.
fn explain(error: &str) -> String {
    let read = |path: &str| fs::read_to_string(Path::new("/proc/sys").join(path)).unwrap_or_default();
    let is = |path: &str, value: &str| read(path).trim() == value;
    let (why, remedy) = if is("user/max_user_namespaces", "0") {
        (
            "user namespaces are switched off (user.max_user_namespaces is 0)",
            "sudo sysctl -w user.max_user_namespaces=15000",
        )
    } else if is("kernel/unprivileged_userns_clone", "0") {
        (
            "users other than root may not create user namespaces (kernel.unprivileged_userns_clone is 0)",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        (
            "AppArmor takes all rights from user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1, the \
             default of Ubuntu since 24.04)",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    } else {
        (
            "this environment does not allow new namespaces; in a container it needs --privileged, or at least \
             CAP_SYS_ADMIN with seccomp and AppArmor unconfined",
            "nothing to switch: use a machine or a virtual machine of your own",
        )
    };
    format!(
        "the lab cannot create its namespaces: {error}\n  why: {why}\n  remedy: {remedy}\n  or run the same command as \
         root: sudo --preserve-env env \"PATH=$PATH\" COMMAND"
    )
}
