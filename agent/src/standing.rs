//! What the agent says of its node beyond its kernel.
//!
//! Owns the order of what can be wrong: the kernel first, then the disk, then pods that an earlier pod CIDR left behind. Must never
//! keep new pods out: these say what to mend, and the node works.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use weft_core::standing::{Health, Problem, Reason};

use crate::{
    controller::Standing,
    disk_trouble::{DiskTrouble, PODS},
    durable,
    engine::Status,
    pods::{AddressBook, HostSide, left_behind},
};

/// While there are pods that were left behind, they are counted again so often: they go one by one.
const AGAIN: Duration = Duration::from_secs(5);

/// Bytes of a try: what a page of a journal takes.
const PAGE: usize = 4096;

/// What is told of, beside the pods.
pub(crate) struct Sources {
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) engine: watch::Receiver<Standing>,
    pub(crate) disk: DiskTrouble,
    /// Where pods' addresses are written.
    pub(crate) pods_dir: PathBuf,
}

/// Completes what the engine says of the node. Runs until the engine is gone.
pub(crate) async fn run<H: HostSide>(
    service: Arc<AddressBook<H>>,
    mut sources: Sources,
    told: watch::Sender<Standing>,
) {
    let mut disk = sources.disk.sentences();
    loop {
        let cidrs = sources.status.borrow_and_update().pod_cidrs;
        let engine = sources.engine.borrow_and_update().clone();
        let unwritten = disk.borrow_and_update().join("; ");
        let outside = service.outside();
        let behind = if outside.is_empty() { String::new() } else { left_behind(&outside) };
        let more = [(Reason::StateNotWritable, unwritten), (Reason::PodsOutsideCidr, behind)];
        let standing = Standing { health: complete(engine.health, more), ..engine };
        told.send_if_modified(|before| {
            let is_new = *before != standing;
            *before = standing;
            is_new
        });
        tokio::select! {
            changed = sources.engine.changed() => if changed.is_err() { return },
            moved = sources.status.wait_for(|status| status.pod_cidrs != cidrs) => if moved.is_err() { return },
            Ok(()) = disk.changed() => {}
            () = tokio::time::sleep(AGAIN), if !outside.is_empty() || sources.disk.has(PODS) => {
                try_again(&sources.disk, &sources.pods_dir);
            }
        }
    }
}

/// Nobody may ask for a pod before it is said that pods can be added again.
fn try_again(trouble: &DiskTrouble, pods_dir: &Path) {
    let probe = pods_dir.with_extension("probe");
    if trouble.has(PODS) && durable::replace(&probe, &[0; PAGE]).and_then(|()| durable::remove(&probe)).is_ok() {
        trouble.set(PODS, None);
    }
}

/// The first of what else is wrong, where the kernel is well.
fn complete(health: Health, more: [(Reason, String); 2]) -> Health {
    let first = more.into_iter().find(|(_, message)| !message.is_empty());
    match first {
        Some((reason, message)) if health.problem.is_none() => {
            Health { problem: Some(Problem { reason, message }), ..health }
        }
        _ => health,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worse_is_told_first() {
        let more = |disk: &str, pods: &str| {
            [(Reason::StateNotWritable, disk.to_owned()), (Reason::PodsOutsideCidr, pods.to_owned())]
        };
        let well = Health::default;
        assert_eq!(complete(well(), more("full", "left")).reason(), Some(&Reason::StateNotWritable));
        assert_eq!(complete(well(), more("", "left")).reason(), Some(&Reason::PodsOutsideCidr));
        assert_eq!(complete(well(), more("", "")), well());
        let kernel = Problem { reason: Reason::KernelDiffers, message: "a route".to_owned() };
        let worse = Health { problem: Some(kernel), ..well() };
        assert_eq!(complete(worse.clone(), more("full", "left")), worse);
    }
}
