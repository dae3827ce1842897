//! The pod part of `weft.v1.AgentService`.
//!
//! Owns the order between disk and kernel: an allocation is durable before it is answered, the host's side is read
//! back before an attachment is; a release takes the host's side away before it frees the address, so that a route
//! never outlives the allocation it belongs to. Must never touch the kernel itself.

use std::{
    collections::BTreeMap,
    future::Future,
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use ipnetwork::IpNetwork;
use tokio::sync::{Mutex, watch};
use tonic::Status;
use weft_core::{
    desired::Pod,
    kernel::{GATEWAY_V4, GATEWAY_V6},
    types::{LinkName, PerFamily, PodCidr},
};
use weft_proto::{convert, v1};

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
    /// Makes the host's side of a pod desired, and returns once the kernel was read back to hold it; an error says
    /// what is missing. The interface exists already.
    fn ensure(&self, pod: Pod) -> impl Future<Output = Result<(), String>> + Send;

    /// Makes it undesired, and returns once the kernel was read back not to hold it. Unknown links are a success.
    fn remove(&self, link: LinkName) -> impl Future<Output = Result<(), String>> + Send;

    /// Reads the host's side back: differences as sentences, none where all is well.
    fn check(&self, link: LinkName) -> impl Future<Output = Vec<String>> + Send;
}

/// What the pods' side needs to know of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// The node's pod CIDRs.
    pub pod_cidrs: PerFamily<Option<PodCidr>>,
    /// MTU for pods' interfaces in bytes.
    pub pod_mtu: u32,
    /// Whether pods can be attached, or why not yet.
    pub ready: Result<(), String>,
}

/// Pods of this node.
pub struct PodService<H> {
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

impl<H: HostSide> PodService<H> {
    /// A service over an opened store.
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
    pub async fn allocate(&self, request: v1::AllocatePodRequest) -> Result<v1::AllocatePodResponse, Status> {
        let key = key(request.attachment)?;
        self.finish_noted_release(&key).await?;
        let node = self.node.borrow().clone();
        node.ready.map_err(|why| Status::unavailable(format!("this node takes no pods yet: {why}")))?;
        if node.pod_cidrs.is_empty() {
            return Err(Status::unavailable("this node has no pod CIDR yet: the controller has not given it one"));
        }
        let wish = Wish { key, cidrs: node.pod_cidrs, netns: request.netns, pod: request.pod, now: unix_seconds() };
        fault::point("allocate-before-journal");
        let allocated = self.store.allocate(wish).await;
        self.note_disk(&allocated);
        let record = allocated.map_err(status)?;
        fault::point("allocate-after-journal");
        Ok(answer(&record, node.pod_mtu))
    }

    /// Programs the host's side of an allocated pod whose interface exists.
    pub async fn attach(&self, request: v1::AttachPodRequest) -> Result<v1::AttachPodResponse, Status> {
        let key = key(request.attachment)?;
        let record = self.find(&key)?;
        let refused = |why| Status::internal(format!("the host's side of {key} ({}): {why}", record.link));
        fault::point("attach-before-host");
        self.host.ensure(record.host_side()).await.map_err(refused)?;
        fault::point("attach-after-host");
        // A DEL that overtook this ADD took away what was there before it, and frees the address: leave no route to it.
        if self.is_ending(&key) || self.find(&key).is_err() {
            self.host.remove(record.link).await.map_err(refused)?;
            return Err(Status::aborted(format!("{key} was released while it was attached")));
        }
        Ok(v1::AttachPodResponse {})
    }

    /// Ends an attachment.
    pub async fn release(&self, request: v1::ReleasePodRequest) -> Result<v1::ReleasePodResponse, Status> {
        self.end(&key(request.attachment)?).await?;
        Ok(v1::ReleasePodResponse {})
    }

    /// What is held for an attachment, and what is wrong with it.
    pub async fn check(&self, request: v1::CheckPodRequest) -> Result<v1::CheckPodResponse, Status> {
        let key = key(request.attachment)?;
        let record = self.find(&key)?;
        let node = self.node.borrow().clone();
        let mut problems = self.host.check(record.link).await;
        if let Some(address) = record.outside(&node.pod_cidrs) {
            problems.push(StoreError::Outside { key, address }.to_string());
        }
        Ok(v1::CheckPodResponse { allocation: Some(answer(&record, node.pod_mtu)), problems })
    }

    /// Ends all attachments but the valid ones.
    pub async fn collect(&self, request: v1::CollectPodsRequest) -> Result<v1::CollectPodsResponse, Status> {
        let valid = request.valid.into_iter().map(|one| key(Some(one))).collect::<Result<Vec<_>, _>>()?;
        let mut released = Vec::new();
        for key in self.store.records().keys().filter(|key| !valid.contains(key)) {
            self.end(key).await?;
            tracing::info!(attachment = %key, "the runtime no longer has this attachment: released");
            let (container_id, interface) = (key.container().to_owned(), key.interface().to_string());
            released.push(v1::Attachment { container_id, interface });
        }
        Ok(v1::CollectPodsResponse { released })
    }

    /// Carries out the releases that plugins noted while no agent answered; to be called after the socket listens, and
    /// now and then. Returns a sentence for each that failed.
    pub async fn take_noted_releases(&self) -> Vec<String> {
        let (keys, mut problems) = self.released.list();
        for key in keys {
            if let Err(status) = self.finish_noted_release(&key).await {
                problems.push(format!("release of {key}: {}", status.message()));
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
    pub(super) async fn reap(&self, record: &Record, link: Option<PodLink>) -> Result<bool, Status> {
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
        let failed = |error: &dyn std::fmt::Display| Status::internal(format!("interface {}: {error}", record.link));
        let linked = linked.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        if !linked {
            self.end(&record.key).await?;
        }
        Ok(!linked)
    }

    async fn finish_noted_release(&self, key: &AttachmentKey) -> Result<(), Status> {
        let _noted = self.noted.lock().await;
        if !self.released.is_noted(key) {
            return Ok(());
        }
        self.end(key).await?;
        tracing::info!(attachment = %key, "released: its DEL came while no agent answered");
        self.released.clear(key).map_err(|error| Status::internal(format!("note of the release of {key}: {error}")))
    }

    /// Takes the host's side away, then frees the addresses.
    async fn end(&self, key: &AttachmentKey) -> Result<(), Status> {
        let _ending = Ending::begin(&self.ending, key);
        let link = key.link();
        let refused = |why| Status::internal(format!("the host's side of {key} ({link}) is not gone: {why}"));
        fault::point("release-before-host");
        self.host.remove(link).await.map_err(refused)?;
        fault::point("release-before-journal");
        self.store.release(key).await.map_err(status)?;
        fault::point("release-after-journal");
        Ok(())
    }

    fn is_ending(&self, key: &AttachmentKey) -> bool {
        self.ending.lock().expect(UNPOISONED).contains_key(key)
    }

    fn find(&self, key: &AttachmentKey) -> Result<Record, Status> {
        let unknown = || Status::not_found(format!("no allocation for {key}: it was never added, or was deleted"));
        self.store.records().get(key).cloned().ok_or_else(unknown)
    }
}

/// Why no lock of [`PodService::ending`] is poisoned.
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

fn key(attachment: Option<v1::Attachment>) -> Result<AttachmentKey, Status> {
    let attachment = attachment.ok_or_else(|| Status::invalid_argument("attachment: missing"))?;
    AttachmentKey::new(&attachment.container_id, &attachment.interface)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

fn answer(record: &Record, mtu: u32) -> v1::AllocatePodResponse {
    let gateway = |address: &IpAddr| match address {
        IpAddr::V4(_) => GATEWAY_V4.octets().to_vec(),
        IpAddr::V6(_) => GATEWAY_V6.octets().to_vec(),
    };
    v1::AllocatePodResponse {
        addresses: record.addresses.iter().map(|address| convert::to_cidr(IpNetwork::from(*address))).collect(),
        gateways: record.addresses.iter().map(gateway).collect(),
        mtu,
        host_interface: record.link.to_string(),
        host_mac: record.host_mac.octets().to_vec(),
        pod_mac: record.pod_mac.octets().to_vec(),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn status(error: StoreError) -> Status {
    let text = error.to_string();
    match error {
        StoreError::Exhausted(_) => Status::resource_exhausted(text),
        StoreError::Outside { .. } => Status::failed_precondition(text),
        StoreError::Disk { .. } => Status::internal(text),
        StoreError::Stopped => Status::unavailable(text),
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
