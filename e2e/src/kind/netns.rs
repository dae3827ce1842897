//! Where a pod's network namespace is: below /proc of one of its processes, as this machine sees them.
//!
//! Owns the search. The kubelet names a pod's control group after the pod's UID, whichever driver and version it uses;
//! that is all it relies on. Must never take a process of another pod.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

/// The namespace file of the pod with this UID.
pub(super) fn of_pod(uid: &str) -> Result<PathBuf> {
    // The systemd driver spells dashes as underscores, for a dash is a level of a slice to systemd.
    let spellings = [format!("pod{uid}"), format!("pod{}", uid.replace('-', "_"))];
    let processes = fs::read_dir("/proc").context("cannot list processes")?;
    for process in processes.filter_map(Result::ok) {
        let groups = process.path().join("cgroup");
        // A process that ended meanwhile is none of a running pod; what is no process has no such file.
        let Ok(groups) = fs::read_to_string(groups) else { continue };
        if spellings.iter().any(|name| groups.contains(name)) {
            return Ok(process.path().join("ns/net"));
        }
    }
    anyhow::bail!("no process on this machine belongs to the pod {uid}")
}
