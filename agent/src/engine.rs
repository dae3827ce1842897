//! The one loop that owns the kernel: read, desired, diff, apply, read again.
//!
//! Owns the membership view, the desired state and what was last read back. Level-triggered: an event, a change of the
//! membership or a request only says where to look. Must never delete anything before it holds a complete view, and never
//! report what it did not read back.

mod blame;
mod change;
mod handle;
mod look;
mod mended;
mod peers;
mod pod_links;
mod pods;
mod standing;
mod still;
mod underlay;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};
use weft_core::{
    desired::{Local, NexthopIds, Pod},
    kernel::{Key, Objects, Seen, Value},
    masquerade::Unmasqueraded,
    membership::View,
    standing::{Facts, PeerProblem},
    types::{LinkName, NodeName},
};

pub(crate) use self::standing::unix_ms;
pub use self::{
    handle::{Dropped, Handle, Request},
    standing::{Problem, Status},
};
use crate::{
    controller::{Held, Standing, Update},
    disk_trouble::DiskTrouble,
    kept_underlay::KeptUnderlay,
    kernel::{Event, InUse, Kernel},
    last_good::{Kept, LastGood, Saver},
    probe::{Findings, Targets},
};

/// A full look at least so often; events make it come sooner. Lost kinds of events are covered by it.
const FULL_LOOK: Duration = Duration::from_secs(60);
/// After an event, so that a burst leads to one look.
const SETTLE: Duration = Duration::from_millis(10);
/// Between two looks while somebody keeps changing our objects back.
const FIGHT_PAUSE: Duration = Duration::from_secs(1);
/// Between a failed look and the next, doubled with each that follows.
const RETRY: Duration = Duration::from_millis(500);
/// Doubled so often at most if the kernel gave no answer: that passes by itself, and drift is not put back meanwhile.
const UNHEARD_DOUBLINGS: u32 = 2;
/// Changes of membership are written to disk, and probe targets renewed, at most so often.
const TIDY: Duration = Duration::from_millis(500);
/// At most so many peers with problems are named in a report; their number is always told.
const NAMED_PEERS: usize = 64;

/// What never changes while the agent runs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// This node.
    pub node: NodeName,
    /// The VXLAN device.
    pub device: LinkName,
    /// The underlay link, where the operator named it.
    pub interface: Option<LinkName>,
    /// The largest packet in bytes that the network between the nodes carries, where the operator said so.
    pub mtu: Option<u32>,
    /// Where pods go under their own addresses, where the operator said so at this node; else the cluster decides.
    pub unmasqueraded: Option<Unmasqueraded>,
    /// The addresses by which the cluster knows this node, where somebody told them.
    pub addresses: Vec<IpAddr>,
    /// Where the last good membership is kept.
    pub last_good: LastGood,
    /// Where it is said that something cannot be written.
    pub disk_trouble: DiskTrouble,
    /// Where the underlay in use is kept.
    pub kept_underlay: KeptUnderlay,
}

/// What the loop listens to.
#[derive(Debug)]
pub struct Inputs {
    /// From the controller.
    pub updates: mpsc::Receiver<Update>,
    /// From pods and the local API.
    pub requests: mpsc::Receiver<Request>,
    /// The controller's address, for finding the underlay.
    pub controller: watch::Receiver<Option<IpAddr>>,
    /// What probes found.
    pub findings: Findings,
}

/// What the loop tells the others.
#[derive(Debug)]
pub struct Outputs {
    /// For the next Hello.
    pub held: watch::Sender<Held>,
    /// This node's facts.
    pub facts: watch::Sender<Option<Facts>>,
    /// For reports.
    pub standing: watch::Sender<Standing>,
    /// For the local API, metrics and the CNI installation.
    pub status: watch::Sender<Status>,
    /// For the prober.
    pub targets: watch::Sender<Arc<Targets>>,
}

/// The loop's state.
pub struct Engine<K> {
    setup: Setup,
    kernel: K,
    out: Outputs,
    findings: Findings,
    view: View,
    /// False while what is held comes from the disk of version 0.1, which keeps a part only: a delta would not do.
    is_whole: bool,
    controller: Option<IpAddr>,
    local: Option<Local>,
    /// The underlay that stays while it is there.
    in_use: Option<InUse>,
    /// Since when its link has no carrier.
    carrier_lost: Option<Instant>,
    ids: NexthopIds,
    pods: BTreeMap<LinkName, Pod>,
    /// Pods to be looked at, and when.
    changed_pods: BTreeSet<LinkName>,
    next_pod_look: Instant,
    /// Deviating objects that somebody else seems to have put right, and when they are read.
    mended: BTreeSet<Key>,
    next_mended_look: Instant,
    /// What the kernel should hold.
    desired: Objects,
    /// Where the kernel differed from it when it was last read, and could not be put right.
    deviations: BTreeMap<Key, String>,
    /// Those of them that the kernel did not take.
    refused: BTreeSet<Key>,
    /// The peers whose objects these are, a few of them, and how many there are.
    blamed: (Vec<PeerProblem>, u32),
    /// Wanted objects that were never read back as ours: whoever holds their place may have been there before.
    unproven: BTreeSet<Key>,
    /// True once a look ended with an empty second diff, until something says otherwise.
    trusted: bool,
    /// Since when the kernel is as it is: well, or with the present kind of problem.
    since: SystemTime,
    status: Status,
    failed_looks: u32,
    /// The last look failed for want of an answer, not for what the kernel answered.
    unheard: bool,
    next_look: Instant,
    last_look: Instant,
    tidy_at: Option<Instant>,
    /// Takes the membership to the disk.
    saver: Saver,
    /// Nothing is put into the kernel any more.
    is_still: bool,
}

impl<K: Kernel> Engine<K> {
    /// A loop over `kernel` that has seen nothing yet; `pods` are those attached before it started.
    pub fn new(setup: Setup, kernel: K, out: Outputs, pods: Vec<Pod>, findings: Findings) -> Self {
        let now = Instant::now();
        let saver = Saver::new(setup.last_good.clone(), setup.disk_trouble.clone());
        Self {
            setup,
            kernel,
            out,
            findings,
            view: View::new(),
            is_whole: true,
            controller: None,
            local: None,
            in_use: None,
            carrier_lost: None,
            ids: NexthopIds::new(),
            pods: pods.into_iter().map(|pod| (pod.link, pod)).collect(),
            changed_pods: BTreeSet::new(),
            next_pod_look: now,
            mended: BTreeSet::new(),
            next_mended_look: now,
            desired: Objects::new(),
            deviations: BTreeMap::new(),
            refused: BTreeSet::new(),
            blamed: (Vec::new(), 0),
            unproven: BTreeSet::new(),
            trusted: false,
            since: SystemTime::now(),
            status: Status::default(),
            failed_looks: 0,
            unheard: false,
            next_look: now,
            last_look: now,
            tidy_at: None,
            saver,
            is_still: false,
        }
    }

    /// Starts from the disk, then runs until the senders of requests are gone. The kernel stays as it is then.
    pub async fn run(mut self, mut inputs: Inputs) -> anyhow::Result<()> {
        let mut events = self.kernel.events()?;
        self.in_use = self.setup.kept_underlay.load();
        self.start_from_disk();
        loop {
            let tidy = self.tidy_at.unwrap_or(self.next_look + FULL_LOOK);
            tokio::select! {
                biased;
                update = inputs.updates.recv() => match update {
                    Some(_) if self.is_still => {}
                    Some(update) => self.update(update).await,
                    None => return Ok(()),
                },
                request = inputs.requests.recv() => match request {
                    Some(request) => self.requests(request, &mut inputs.requests).await,
                    None => return Ok(()),
                },
                () = sleep_until(self.next_look), if !self.is_still => self.look().await,
                () = sleep_until(self.next_pod_look), if !self.changed_pods.is_empty() => self.look_at_pods().await,
                () = sleep_until(self.next_mended_look), if !self.mended.is_empty() => self.look_at_mended().await,
                event = events.recv() => match event {
                    Some(_) if self.is_still => {}
                    Some(event) => self.event(&event),
                    None => anyhow::bail!("the kernel's events have ended; the agent cannot see drift and stops"),
                },
                Ok(()) = inputs.controller.changed() => {
                    self.controller = *inputs.controller.borrow_and_update();
                    self.look_within(Duration::ZERO);
                }
                () = inputs.findings.changed() => self.publish(),
                () = sleep_until(tidy), if !self.is_still => self.tidy(),
            }
        }
    }

    /// Removes every object of ours, for `weft-agent cleanup`.
    pub async fn remove_everything(mut self) -> anyhow::Result<usize> {
        self.clear().await
    }

    fn start_from_disk(&mut self) {
        let (kept, problems) = self.setup.last_good.load();
        problems.iter().for_each(|problem| warn!("{problem}"));
        let Some(Kept { snapshot, is_whole }) = kept else { return };
        self.is_whole = is_whole;
        let (revision, members) = (snapshot.revision, snapshot.members.len());
        match self.view.apply_snapshot(snapshot) {
            Ok(()) => {
                info!(%revision, members, "starting from the last good membership");
                self.membership_changed();
            }
            Err(error) => warn!("the last good membership cannot be used: {error}"),
        }
    }

    /// Decides whether an event is news. What we hold already was most likely our own doing.
    fn event(&mut self, event: &Event) {
        match event {
            Event::Object(key, seen) if is_as_wanted(self.desired.get(key), seen.as_ref()) => self.seems_mended(*key),
            Event::Object(key, _) => {
                tracing::debug!("{key} was changed by somebody");
                match self.pod_of(key) {
                    Some(link) => self.pod_changed(link),
                    None => self.look_within(SETTLE),
                }
            }
            Event::PodLink(link) => self.pod_changed(*link),
            Event::Look | Event::Underlay | Event::Overflow => self.look_within(SETTLE),
        }
    }

    /// Brings the next look forward, but leaves a pause while somebody fights us.
    fn look_within(&mut self, delay: Duration) {
        let pause = if self.status.is_fought_over() { FIGHT_PAUSE } else { Duration::ZERO };
        let earliest = (Instant::now() + delay).max(self.last_look + pause);
        self.next_look = self.next_look.min(earliest);
    }

    fn membership_changed(&mut self) {
        let (revision, digests) = (self.is_whole.then(|| self.view.revision()), Some(self.view.digests()));
        self.out.held.send_modify(|held| *held = Held { revision, digests, ..held.clone() });
        self.tidy_at.get_or_insert(Instant::now() + TIDY);
    }

    /// Work that may wait a little: the disk and the prober.
    fn tidy(&mut self) {
        self.tidy_at = None;
        self.renew_targets();
        // A part, kept as if it were the whole, would be taken for it by the next run.
        if let Some(snapshot) = self.view.snapshot().filter(|_| self.is_whole) {
            self.saver.save(snapshot);
        }
    }

    fn renew_targets(&self) {
        let Some(me) = self.view.member(&self.setup.node) else { return };
        let mut targets = Targets::default();
        targets.sources.v4 = me.pod_cidrs.v4.map(|cidr| cidr.vtep());
        targets.sources.v6 = me.pod_cidrs.v6.map(|cidr| cidr.vtep());
        let mut underlays = Vec::new();
        for peer in self.view.members().filter(|member| member.name != me.name) {
            targets.peers.extend(peer.pod_cidrs.iter().map(|cidr| (peer.name.clone(), cidr.vtep())));
            underlays.extend(peer.named_underlays());
        }
        targets.underlays = underlays.into();
        self.out.targets.send_replace(Arc::new(targets));
    }
}

/// True if an object is, or is not, there as it should be.
fn is_as_wanted(wanted: Option<&Value>, seen: Option<&Seen>) -> bool {
    match (wanted, seen) {
        (Some(wanted), Some(seen)) => seen.is(wanted),
        (None, None) => true,
        _ => false,
    }
}
