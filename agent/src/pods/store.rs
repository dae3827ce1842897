//! The node's address store: a thread that owns the ledger, and handles to ask it.
//!
//! Whatever waits is written with one sync (group commit): 110 pods at once cost a few syncs, not 110. A thread rather
//! than a task, because a sync blocks, and everything else of the agent shares one thread.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::{Arc, RwLock, mpsc},
    thread,
};

use tokio::sync::oneshot;
use weft_core::types::{PerFamily, PodCidr};

use super::{
    Disk, Exhausted, Record,
    ledger::{Answer, Change, Ledger, Wish},
    usable,
};
use crate::veth::AttachmentKey;

/// The most changes that share one sync.
const BATCH: usize = 256;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No address is free.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The attachment holds an address of a pod CIDR the node no longer has.
    #[error(
        "{key} holds {address}, which is in none of this node's present pod CIDRs: delete the pod, so that it gets a \
         new address"
    )]
    Outside {
        /// Whose address it is.
        key: AttachmentKey,
        /// The address.
        address: IpAddr,
    },
    /// The journal could not be read or written.
    #[error("allocations of pods in {journal}: {source}; check the disk's space and health")]
    Disk {
        /// The file.
        journal: String,
        /// The cause.
        source: io::Error,
    },
    /// The store's thread has ended.
    #[error("the store of pod addresses has stopped: restart weft-agent")]
    Stopped,
}

struct Request {
    change: Change,
    answer: oneshot::Sender<Answer>,
}

type Records = Arc<RwLock<Arc<BTreeMap<AttachmentKey, Record>>>>;

/// A handle on the store; clones share it. The thread ends with the last one.
#[derive(Debug, Clone)]
pub struct PodStore {
    requests: mpsc::Sender<Request>,
    /// What is durable.
    records: Records,
}

/// A store just opened.
pub struct Opened {
    /// The store.
    pub store: PodStore,
    /// What was wrong with the journal, as sentences; empty where all is well.
    pub damage: Vec<String>,
}

impl PodStore {
    /// Reads the journal and starts the store's thread.
    pub fn open<D: Disk + 'static>(disk: D) -> Result<Opened, StoreError> {
        let (ledger, damage) = Ledger::open(disk)?;
        let records: Records = Arc::new(RwLock::new(Arc::new(ledger.records().clone())));
        let (requests, queue) = mpsc::channel();
        let published = Arc::clone(&records);
        thread::Builder::new()
            .name("weft-pods".to_owned())
            .spawn(move || run(ledger, &queue, &published))
            .map_err(|source| StoreError::Disk { journal: "the store's thread".to_owned(), source })?;
        Ok(Opened { store: Self { requests, records }, damage })
    }

    /// Gives an attachment its addresses; returns once they are durable.
    pub(super) async fn allocate(&self, wish: Wish) -> Result<Record, StoreError> {
        self.ask(Change::Allocate(wish)).await?.ok_or(StoreError::Stopped)
    }

    /// Ends an attachment; returns what it held. Succeeds even while the disk cannot be written.
    pub async fn release(&self, key: &AttachmentKey) -> Result<Option<Record>, StoreError> {
        self.ask(Change::Release(key.clone())).await
    }

    /// All allocations by key, as they are on disk.
    pub fn records(&self) -> Arc<BTreeMap<AttachmentKey, Record>> {
        Arc::clone(&self.records.read().expect("no panic while it is held: an assignment only"))
    }

    /// Per pod CIDR: addresses held, addresses usable.
    pub fn usage(&self, cidrs: &PerFamily<Option<PodCidr>>) -> Vec<(PodCidr, u128, u128)> {
        let records = self.records();
        let held = |cidr: &PodCidr| {
            let inside = |address: &&IpAddr| cidr.contains(**address);
            records.values().flat_map(|record| record.addresses.iter()).filter(inside).count() as u128
        };
        cidrs.iter().map(|cidr| (*cidr, held(cidr), usable(cidr))).collect()
    }

    async fn ask(&self, change: Change) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request { change, answer }).map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }
}

fn run<D: Disk>(mut ledger: Ledger<D>, queue: &mpsc::Receiver<Request>, published: &Records) {
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(BATCH - 1));
        let (changes, callers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.change, request.answer)).unzip();
        let answers = ledger.process(&changes);
        *published.write().expect("no panic while it is held: an assignment only") = Arc::new(ledger.records().clone());
        for (caller, answer) in callers.into_iter().zip(answers) {
            // A caller that went away asks again, or releases.
            let _ = caller.send(answer);
        }
    }
}
