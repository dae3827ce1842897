//! The store on real file systems that are full or read-only: tmpfs in a mount namespace of the test's own.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, flock},
    mount::{MountFlags, mount, mount_remount},
};
use tokio::sync::watch;
use weft_agent::{
    pods::{AddressBook, Allocation, DirDisk, HostSide, NodeState, PodError, PodStore},
    veth::{AttachmentKey, Released},
};
use weft_core::{
    desired::Pod,
    types::{LinkName, PerFamily},
};

use crate::lab::on_a_host;

struct NoHost;

impl HostSide for NoHost {
    type Error = String;

    async fn ensure(&self, _: Pod) -> Result<(), String> {
        Ok(())
    }

    async fn remove(&self, _: LinkName) -> Result<(), String> {
        Ok(())
    }

    async fn check(&self, _: LinkName) -> Vec<String> {
        Vec::new()
    }
}

/// A small file system of the test's own.
fn file_system() -> PathBuf {
    let path = std::env::temp_dir();
    mount("weft-test", &path, "tmpfs", MountFlags::empty(), Some(c"size=64k")).expect("a tmpfs");
    path
}

/// Opens the store; what was wrong with it is the second.
fn open(directory: &Path) -> (AddressBook<NoHost>, Vec<String>) {
    let opened = PodStore::open(DirDisk::open(&directory.join("pods")).expect("a disk")).expect("a store");
    let pod_cidrs = PerFamily { v4: Some("10.1.0.0/16".parse().expect("a CIDR")), v6: None };
    let (_, node) = watch::channel(NodeState { pod_cidrs, pod_mtu: Some(1450), ready: Ok(()) });
    let released = Released::beside(&directory.join("agent.sock"));
    (AddressBook::new(opened.store, NoHost, node, released, Default::default()), opened.damage)
}

/// Waits until the thread of a store that was dropped has let go of the lock.
fn wait_for_lock(directory: &Path) -> File {
    let lock = File::open(directory.join("pods/lock")).expect("the lock");
    flock(&lock, FlockOperation::LockExclusive).expect("the lock comes free");
    lock
}

fn key(number: u32) -> AttachmentKey {
    AttachmentKey::new(&format!("c{number}"), "eth0").expect("valid")
}

async fn allocate(pods: &AddressBook<NoHost>, number: u32) -> Result<Allocation, PodError> {
    pods.allocate(key(number), String::new(), String::new()).await
}

async fn release(pods: &AddressBook<NoHost>, number: u32) {
    pods.end(&key(number)).await.expect("a release never hangs on a disk");
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}

#[test]
fn a_full_disk_costs_no_allocation_and_heals_by_itself() {
    on_a_host("disk::a_full_disk_costs_no_allocation_and_heals_by_itself", || {
        run(async {
            let directory = file_system();
            let (pods, _) = open(&directory);
            let first = allocate(&pods, 1).await.expect("allocated");
            let filler = directory.join("filler");
            std::fs::write(&filler, vec![0; 1 << 16]).expect_err("now the disk is full");
            // The journal's last page has some room left.
            let mut number = 1;
            let error = loop {
                number += 1;
                match allocate(&pods, number).await {
                    Ok(_) => assert!(number < 100, "the disk is not full"),
                    Err(error) => break error.to_string(),
                }
            };
            assert!(error.contains("check the disk's space"), "{error}");
            assert_eq!(pods.store().records().len(), number as usize - 1);
            assert_eq!(allocate(&pods, 1).await.expect("known"), first);
            // Pods go although the disk is full.
            release(&pods, 2).await;
            std::fs::remove_file(&filler).expect("space");
            allocate(&pods, 1000).await.expect("well again, without a restart");
            let held = pods.store().records();
            drop(pods);
            drop(wait_for_lock(&directory));
            let (pods, damage) = open(&directory);
            assert_eq!((pods.store().records(), damage), (held, Vec::new()), "memory and disk differ");
        });
    });
}

#[test]
fn on_a_read_only_disk_pods_stay_known_and_new_ones_are_refused() {
    on_a_host("disk::on_a_read_only_disk_pods_stay_known_and_new_ones_are_refused", || {
        run(async {
            let directory = file_system();
            let (pods, _) = open(&directory);
            let first = allocate(&pods, 1).await.expect("allocated");
            drop(pods);
            // A file open for writing, such as the journal of a store, would forbid what follows.
            let lock = wait_for_lock(&directory);
            mount_remount(&directory, MountFlags::RDONLY, c"").expect("read-only");
            drop(lock);
            let (pods, damage) = open(&directory);
            assert!(damage.len() == 1 && damage[0].contains("Read-only"), "{damage:?}");
            assert_eq!(allocate(&pods, 1).await.expect("known"), first);
            assert!(allocate(&pods, 2).await.expect_err("not durable").to_string().contains("Read-only"));
            release(&pods, 1).await;
            mount_remount(&directory, MountFlags::empty(), c"").expect("writable again");
            allocate(&pods, 2).await.expect("well again, without a restart");
            assert_eq!(pods.store().records().len(), 1);
        });
    });
}
