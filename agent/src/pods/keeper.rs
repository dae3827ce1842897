//! Keeps allocations and links equal to the pods there really are: at the start, now and then, and for as long as the
//! agent runs.
//!
//! Not every runtime tells us of every end: containerd 1.6 sends no GC, a DEL gets lost with a power cut, a journal with
//! a disk. Owns the order of looking and freeing. Must never free on one look alone: a suspicion has to stand for the
//! grace period, and whatever is about to be freed is looked at once more.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tracing::{info, warn};
use weft_program::error::with_causes;

use super::{
    AddressBook, HostSide, NodeState, Record, mtu,
    truth::{Suspects, Verdict},
    witness::{self, Look, PodLink},
};
use crate::veth::AttachmentKey;

/// The longest pause between two rounds.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The shortest pause, for grace periods that tests choose.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The keeper of a node's pods.
pub struct Keeper<H> {
    pods: Arc<AddressBook<H>>,
    node: watch::Receiver<NodeState>,
    results: PathBuf,
    grace: Duration,
    allocations: Suspects<AttachmentKey>,
    links: Suspects<(u32, String)>,
    /// Attachments whose result was in the runtime's cache once: where it is missing, the runtime removed it.
    cached: BTreeSet<AttachmentKey>,
    /// What an operator was told of, so that it is told once.
    told: BTreeMap<String, String>,
}

/// What one round did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Round {
    /// Attachments whose addresses were freed.
    pub freed: Vec<AttachmentKey>,
    /// Links that were deleted because no allocation has them.
    pub links: Vec<String>,
    /// Attachments whose MTU was changed.
    pub resized: Vec<AttachmentKey>,
    /// Allocations and links that will be freed unless somebody speaks for them.
    pub suspected: usize,
}

/// One look, judged.
struct Judged {
    look: Look,
    records: Arc<BTreeMap<AttachmentKey, Record>>,
    gone: BTreeMap<AttachmentKey, (&'static str, Option<PodLink>)>,
    cut_off: Vec<AttachmentKey>,
    unclaimed: BTreeMap<(u32, String), PodLink>,
    forgotten_by_us: Vec<String>,
}

impl<H: HostSide> Keeper<H> {
    /// A keeper. `results` is where the runtime caches CNI results, [`witness::CACHED_RESULTS`] by default; `grace` is how
    /// long a suspicion has to stand.
    pub fn new(pods: Arc<AddressBook<H>>, results: PathBuf, grace: Duration) -> Self {
        let node = pods.node();
        let (allocations, links) = (Suspects::default(), Suspects::default());
        Self { pods, node, results, grace, allocations, links, cached: BTreeSet::new(), told: BTreeMap::new() }
    }

    /// Goes round until the task is dropped.
    pub async fn run(mut self) {
        loop {
            for problem in self.pods.take_noted_releases().await {
                warn!("{problem}");
            }
            if let Err(error) = self.round(Instant::now()).await {
                warn!("the pods of this host cannot be looked at: {error}; nothing is freed until they can");
            }
            let pause = (self.grace / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE).mul_f64(0.8 + 0.4 * fastrand::f64());
            let mtu = self.node.borrow_and_update().pod_mtu;
            tokio::select! {
                () = sleep(pause) => {}
                changed = self.node.wait_for(|node| node.pod_mtu != mtu) => if changed.is_err() { return },
            }
        }
    }

    /// Looks, frees what is over its grace period at `now`, and has pods follow the node's MTU.
    pub async fn round(&mut self, now: Instant) -> io::Result<Round> {
        let judged = self.look().await?;
        self.tell(&judged);
        let gone = self.allocations.ripe(judged.gone.keys().cloned(), now, self.grace);
        let unclaimed = self.links.ripe(judged.unclaimed.keys().cloned(), now, self.grace);
        let mut round = Round { suspected: self.allocations.len() + self.links.len(), ..Round::default() };
        for key in gone {
            let (why, link) = &judged.gone[&key];
            if self.free(&judged.records[&key], why, link.clone()).await {
                round.freed.push(key);
            }
        }
        for id in unclaimed {
            if self.delete(&judged.unclaimed[&id]).await {
                round.links.push(id.1);
            }
        }
        round.resized = self.resize(&judged).await;
        Ok(round)
    }

    async fn look(&mut self) -> io::Result<Judged> {
        let (results, pods) = (self.results.clone(), Arc::clone(&self.pods));
        let mut cached = std::mem::take(&mut self.cached);
        let (judged, cached) = blocking(move || {
            // Links before records: a link is made after its record, so that one without a record lost it.
            let look = Look::now(&results)?;
            let records = pods.store().records();
            cached.retain(|key| records.contains_key(key));
            cached
                .extend(records.values().filter(|record| look.remembers(record.link)).map(|record| record.key.clone()));
            Ok((Judged::of(look, records, &cached), cached))
        })
        .await?;
        self.cached = cached;
        Ok(judged)
    }

    /// Once for each: what only an operator or the runtime can put right.
    fn tell(&mut self, judged: &Judged) {
        let cut_off = judged.cut_off.iter().map(|key| {
            (key.to_string(), "its interface was removed, its runtime still has the pod: delete the pod".to_owned())
        });
        let lost = judged.forgotten_by_us.iter().map(|name| {
            (name.clone(), "the runtime has this pod, but its allocation is lost: delete the pod".to_owned())
        });
        let all: BTreeMap<String, String> = cut_off.chain(lost).collect();
        for (who, what) in &all {
            if self.told.get(who) != Some(what) {
                warn!("{who}: {what}");
            }
        }
        self.told.retain(|who, what| all.get(who) == Some(what) || what.starts_with(MTU));
        self.told.extend(all);
    }

    async fn free(&self, record: &Record, why: &str, link: Option<PodLink>) -> bool {
        let addresses: Vec<_> = record.addresses.iter().map(ToString::to_string).collect();
        match self.pods.reap(record, link).await {
            Ok(true) => {
                let addresses = addresses.join(", ");
                info!(attachment = %record.key, pod = record.pod, addresses, "freed the addresses of a pod: {why}");
                true
            }
            Ok(false) => false,
            Err(error) => {
                warn!("the addresses of {} cannot be freed: {error}", record.key);
                false
            }
        }
    }

    async fn delete(&self, link: &PodLink) -> bool {
        let is_claimed = |record: &Record| record.link == link.name;
        if self.pods.store().records().values().any(is_claimed) {
            return false;
        }
        let name = link.name;
        let link = link.clone();
        match blocking(move || witness::delete(&link)).await {
            Ok(()) => {
                info!(link = %name, "deleted a pod's interface that no allocation has");
                true
            }
            Err(error) => {
                warn!("interface {name}, which no allocation has, cannot be deleted: {error}");
                false
            }
        }
    }

    async fn resize(&mut self, judged: &Judged) -> Vec<AttachmentKey> {
        let mut resized = Vec::new();
        let Some(mtu) = self.node.borrow().pod_mtu else { return resized };
        for record in judged.records.values() {
            let Some(link) = judged.look.link(record).filter(|link| link.mtu != mtu && link.marked).cloned() else {
                continue;
            };
            let told = format!("{MTU} {mtu}");
            if self.told.get(&record.key.to_string()) == Some(&told) {
                continue;
            }
            let (old, of) = (link.mtu, record.clone());
            match blocking(move || Ok(mtu::follow(&of, &link, mtu))).await {
                Ok(Ok(())) => {
                    info!(attachment = %record.key, pod = record.pod, old, mtu, "the pod's MTU follows the underlay's");
                    resized.push(record.key.clone());
                }
                Ok(Err(error)) => {
                    warn!(
                        "{} keeps its MTU of {old}, path MTU discovery does the rest: {}",
                        record.key,
                        with_causes(&error)
                    );
                    self.told.insert(record.key.to_string(), told);
                }
                Err(error) => warn!("{}: {error}", record.key),
            }
        }
        resized
    }
}

/// How entries of [`Keeper::told`] about the MTU begin.
const MTU: &str = "MTU";

impl Judged {
    fn of(mut look: Look, records: Arc<BTreeMap<AttachmentKey, Record>>, cached: &BTreeSet<AttachmentKey>) -> Self {
        let (mut gone, mut cut_off) = (BTreeMap::new(), Vec::new());
        for record in records.values() {
            match look.of(record, cached.contains(&record.key)).verdict() {
                Verdict::Lives => {}
                Verdict::CutOff => cut_off.push(record.key.clone()),
                Verdict::Gone(why) => drop(gone.insert(record.key.clone(), (why, look.link(record).cloned()))),
            }
        }
        let claimed: BTreeSet<_> =
            records.values().filter_map(|record| look.link(record)).map(|link| link.index).collect();
        let (mut unclaimed, mut forgotten_by_us) = (BTreeMap::new(), Vec::new());
        for link in look.marked().filter(|link| !claimed.contains(&link.index)) {
            if look.remembers(link.name) {
                forgotten_by_us.push(link.name.to_string());
            } else {
                unclaimed.insert((link.index, link.name.to_string()), link.clone());
            }
        }
        Self { look, records, gone, cut_off, unclaimed, forgotten_by_us }
    }
}

/// Off the agent's thread, which serves everybody else.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}
