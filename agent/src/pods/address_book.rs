//! The address book: which pod of this node has which address.
//!
//! Owns the order between disk and kernel: an allocation is durable before it is answered, the host's side is read
//! back before an attachment is; a release takes the host's side away before it frees the address, so that a route
//! never outlives the allocation it belongs to. Must never touch the kernel itself.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    io,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::{Mutex, watch};
use weft_core::{
    desired::Pod,
    types::{LinkName, PerFamily, PodCidr},
};

use super::{
    PodStore, Record, StoreError,
    ledger::Wish,
    witness::{self, PodLink},
};
use crate::{
    disk_trouble::{self, DiskTrouble},
    fault,
    veth::{AttachmentKey, Released},
};

/// The host's side of pods; the reconcile loop implements it.
pub trait HostSide: Send + Sync + 'static {
    /// What it says of what is missing, or still there.
    type Error: fmt::Display + Send;

    /// Makes the host's side of a pod desired, and returns once the kernel was read back to hold it; an error says
    /// what is missing. The interface exists already.
    fn ensure(&self, pod: Pod) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Makes it undesired, and returns once the kernel was read back not to hold it. Unknown links are a success.
    fn remove(&self, link: LinkName) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Reads the host's side back: differences as sentences, none where all is well.
    fn check(&self, link: LinkName) -> impl Future<Output = Vec<String>> + Send;
}

/// What the pods' side needs to know of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// The node's pod CIDRs.
    pub pod_cidrs: PerFamily<Option<PodCidr>>,
    /// MTU for pods' interfaces in bytes, once known.
    pub pod_mtu: Option<u32>,
    /// Whether pods can be attached, or why not yet.
    pub ready: Result<(), String>,
}

impl NodeState {
    /// What pods' interfaces carry; until that is known the node takes none.
    fn mtu(&self) -> Result<u32, PodError> {
        let starting = || PodError::NotReady("the agent is starting".to_owned());
        self.pod_mtu.ok_or_else(|| self.ready.as_ref().err().cloned().map_or_else(starting, PodError::NotReady))
    }
}

/// What a pod gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The addresses, with the names and MACs of both ends.
    pub record: Record,
    /// MTU of both ends in bytes.
    pub mtu: u32,
}

/// Why a request of a runtime was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// Not now.
    #[error("this node takes no pods yet: {0}")]
    NotReady(String),
    /// Not before the controller gave it one.
    #[error("this node has no pod CIDR yet: the controller has not given it one")]
    NoPodCidr,
    /// The store's answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host's side is not as it has to be.
    #[error("the host's side of {key} ({link}){}: {message}", if *.is_end { " is not gone" } else { "" })]
    HostSide {
        /// Whose it is.
        key: AttachmentKey,
        /// The host's end.
        link: LinkName,
        /// It was to go.
        is_end: bool,
        /// What is missing, or still there.
        message: String,
    },
    /// A DEL overtook the ADD.
    #[error("{0} was released while it was attached")]
    Released(AttachmentKey),
    /// Nothing is held for it.
    #[error("no allocation for {0}: it was never added, or was deleted")]
    Unknown(AttachmentKey),
    /// The pod's interface can be neither looked for nor deleted.
    #[error("interface {link}: {message}")]
    Interface {
        /// The host's end.
        link: LinkName,
        /// What the kernel said.
        message: String,
    },
    /// The note of a release cannot be cleared.
    #[error("note of the release of {key}: {source}")]
    Note {
        /// Whose release it is.
        key: AttachmentKey,
        /// What the disk said.
        source: io::Error,
    },
}

/// The pods of this node.
pub struct AddressBook<H> {
    store: PodStore,
    host: H,
    node: watch::Receiver<NodeState>,
    released: Released,
    /// Held while a noted release is looked up or carried out, so that none meets a later ADD of the same attachment.
    noted: Mutex<()>,
    /// Attachments whose end has begun, with how many calls are at it: an ADD that they overtake must not succeed.
    ending: std::sync::Mutex<BTreeMap<AttachmentKey, usize>>,
    disk_trouble: DiskTrouble,
}

impl<H: HostSide> AddressBook<H> {
    /// One over an opened store.
    pub fn new(
        store: PodStore,
        host: H,
        node: watch::Receiver<NodeState>,
        released: Released,
        disk_trouble: DiskTrouble,
    ) -> Self {
        Self { store, host, node, released, noted: Mutex::new(()), ending: std::sync::Mutex::default(), disk_trouble }
    }

    /// Whether the last allocation could be written, for people.
    fn note_disk<T>(&self, written: &Result<T, StoreError>) {
        let problem = match written {
            Err(error @ StoreError::Disk { .. }) => {
                Some(format!("no pod can be added: {error}; make space in the state directory"))
            }
            _ => None,
        };
        self.disk_trouble.set(disk_trouble::PODS, problem);
    }

    /// Reserves addresses, durably.
    pub async fn allocate(&self, key: AttachmentKey, netns: String, pod: String) -> Result<Allocation, PodError> {
        self.finish_noted_release(&key).await?;
        let node = self.node.borrow().clone();
        let mtu = node.mtu()?;
        node.ready.map_err(PodError::NotReady)?;
        if node.pod_cidrs.is_empty() {
            return Err(PodError::NoPodCidr);
        }
        let wish = Wish { key, cidrs: node.pod_cidrs, netns, pod, now: unix_seconds() };
        fault::point("allocate-before-journal");
        let allocated = self.store.allocate(wish).await;
        self.note_disk(&allocated);
        let record = allocated?;
        fault::point("allocate-after-journal");
        Ok(Allocation { record, mtu })
    }

    /// Programs the host's side of an allocated pod whose interface exists.
    pub async fn attach(&self, key: &AttachmentKey) -> Result<(), PodError> {
        let record = self.find(key)?;
        let refused = |error: H::Error| PodError::HostSide {
            key: key.clone(),
            link: record.link,
            is_end: false,
            message: error.to_string(),
        };
        fault::point("attach-before-host");
        self.host.ensure(record.host_side()).await.map_err(refused)?;
        fault::point("attach-after-host");
        // A DEL that overtook this ADD took away what was there before it, and frees the address: leave no route to it.
        if self.is_ending(key) || self.find(key).is_err() {
            self.host.remove(record.link).await.map_err(refused)?;
            return Err(PodError::Released(key.clone()));
        }
        Ok(())
    }

    /// What is held for an attachment, and what is wrong with it.
    pub async fn check(&self, key: &AttachmentKey) -> Result<(Allocation, Vec<String>), PodError> {
        let record = self.find(key)?;
        let node = self.node.borrow().clone();
        let mtu = node.mtu()?;
        let mut problems = self.host.check(record.link).await;
        if let Some(address) = record.outside(&node.pod_cidrs) {
            problems.push(StoreError::Outside { key: key.clone(), address }.to_string());
        }
        Ok((Allocation { record, mtu }, problems))
    }

    /// Ends all attachments but the valid ones, and says which.
    pub async fn collect(&self, valid: &[AttachmentKey]) -> Result<Vec<AttachmentKey>, PodError> {
        let mut released = Vec::new();
        for key in self.store.records().keys().filter(|key| !valid.contains(key)) {
            self.end(key).await?;
            tracing::info!(attachment = %key, "the runtime no longer has this attachment: released");
            released.push(key.clone());
        }
        Ok(released)
    }

    /// Carries out the releases that plugins noted while no agent answered; to be called after the socket listens, and
    /// now and then. Returns a sentence for each that failed.
    pub async fn take_noted_releases(&self) -> Vec<String> {
        let (keys, mut problems) = self.released.list();
        for key in keys {
            if let Err(error) = self.finish_noted_release(&key).await {
                problems.push(format!("release of {key}: {error}"));
            }
        }
        problems
    }

    /// The host's sides of all pods whose addresses are in the node's present pod CIDRs.
    pub fn host_sides(&self) -> Vec<Pod> {
        let cidrs = self.node.borrow().pod_cidrs;
        let records = self.store.records();
        records.values().filter(|record| record.outside(&cidrs).is_none()).map(Record::host_side).collect()
    }

    /// Allocations outside the node's present pod CIDRs: those pods have lost their addresses.
    pub fn outside(&self) -> Vec<Record> {
        let cidrs = self.node.borrow().pod_cidrs;
        let records = self.store.records();
        records.values().filter(|record| record.outside(&cidrs).is_some()).cloned().collect()
    }

    /// Per present pod CIDR: addresses held, addresses usable.
    pub fn usage(&self) -> Vec<(PodCidr, u128, u128)> {
        self.store.usage(&self.node.borrow().pod_cidrs)
    }

    /// The store.
    pub const fn store(&self) -> &PodStore {
        &self.store
    }

    /// How the node stands.
    pub(super) fn node(&self) -> watch::Receiver<NodeState> {
        self.node.clone()
    }

    /// Ends an attachment whose pod is gone: with `link`, its interface goes too; without, it is looked for once more,
    /// and an attachment that has one again stays. False where it stayed.
    pub(super) async fn reap(&self, record: &Record, link: Option<PodLink>) -> Result<bool, PodError> {
        // From here on no ADD of it succeeds that did not make its interface before.
        let _ending = Ending::begin(&self.ending, &record.key);
        if self.store.records().get(&record.key) != Some(record) {
            return Ok(false);
        }
        let of = record.clone();
        let linked = tokio::task::spawn_blocking(move || match link {
            Some(link) => witness::delete(&link).map(|()| false),
            None => witness::is_linked(&of),
        });
        let failed = |error: &dyn ToString| PodError::Interface { link: record.link, message: error.to_string() };
        let linked = linked.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        if !linked {
            self.end(&record.key).await?;
        }
        Ok(!linked)
    }

    async fn finish_noted_release(&self, key: &AttachmentKey) -> Result<(), PodError> {
        let _noted = self.noted.lock().await;
        if !self.released.is_noted(key) {
            return Ok(());
        }
        self.end(key).await?;
        tracing::info!(attachment = %key, "released: its DEL came while no agent answered");
        self.released.clear(key).map_err(|source| PodError::Note { key: key.clone(), source })
    }

    /// Ends an attachment: takes the host's side away, then frees the addresses.
    pub async fn end(&self, key: &AttachmentKey) -> Result<(), PodError> {
        let _ending = Ending::begin(&self.ending, key);
        let link = key.link();
        let refused =
            |error: H::Error| PodError::HostSide { key: key.clone(), link, is_end: true, message: error.to_string() };
        fault::point("release-before-host");
        self.host.remove(link).await.map_err(refused)?;
        fault::point("release-before-journal");
        self.store.release(key).await?;
        fault::point("release-after-journal");
        Ok(())
    }

    fn is_ending(&self, key: &AttachmentKey) -> bool {
        self.ending.lock().expect(UNPOISONED).contains_key(key)
    }

    fn find(&self, key: &AttachmentKey) -> Result<Record, PodError> {
        self.store.records().get(key).cloned().ok_or_else(|| PodError::Unknown(key.clone()))
    }
}

/// Why no lock of [`AddressBook::ending`] is poisoned.
const UNPOISONED: &str = "nobody panics while counting";

/// Counts a call that ends an attachment, until it returns or is dropped.
struct Ending<'a> {
    all: &'a std::sync::Mutex<BTreeMap<AttachmentKey, usize>>,
    key: &'a AttachmentKey,
}

impl<'a> Ending<'a> {
    fn begin(all: &'a std::sync::Mutex<BTreeMap<AttachmentKey, usize>>, key: &'a AttachmentKey) -> Self {
        *all.lock().expect(UNPOISONED).entry(key.clone()).or_default() += 1;
        Self { all, key }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock().expect(UNPOISONED);
        if let Some(count) = all.get_mut(self.key) {
            *count -= 1;
            if *count == 0 {
                all.remove(self.key);
            }
        }
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
