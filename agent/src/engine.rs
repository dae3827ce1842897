//! The one loop that owns the kernel: read, desired, diff, apply, read again.
//!
//! Owns the membership view, the desired state and what was last read back. Level-triggered: an event, a change of the
//! membership or a request only says where to look. Must never delete anything before it holds a complete view, and never
//! report what it did not read back.

mod blame;
mod change;
mod error;
mod halt;
mod handle;
mod holdings;
mod pass;
mod peers;
mod pod_links;
mod pods;
mod schedule;
mod settle;
mod status;
mod underlay;

use std::{
    collections::BTreeMap,
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
    kernel::Key,
    masquerade::Unmasqueraded,
    membership::View,
    standing::{Facts, PeerProblem},
    types::{LinkName, NodeName},
};

pub use self::{
    error::EngineError,
    halt::remove_everything,
    handle::{Dropped, Handle, Request},
    status::{Problem, Status},
};
use self::{
    holdings::Holdings,
    schedule::{Due, Schedule},
};
use crate::{
    controller::{Held, Standing, Update},
    disk_trouble::DiskTrouble,
    kept_underlay::KeptUnderlay,
    kernel::{Event, InUse, Kernel},
    last_good::{Kept, LastGood, Saver},
    probe::{Findings, Targets},
};

/// At most so many peers with problems are named in a report; their number is always told.
const NAMED_PEERS: usize = 64;

/// What never changes while the agent runs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// This node.
    pub node: NodeName,
    /// The tunnel device.
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
    holdings: Holdings,
    /// The peers whose objects deviate, a few of them, and how many there are.
    blamed: (Vec<PeerProblem>, u32),
    /// True once a pass ended with an empty second diff, until something says otherwise.
    trusted: bool,
    /// Since when the kernel is as it is: well, or with the present kind of problem.
    since: SystemTime,
    status: Status,
    /// The last pass failed for want of an answer, not for what the kernel answered.
    unheard: bool,
    schedule: Schedule,
    /// Takes the membership to the disk.
    saver: Saver,
    /// Nothing is put into the kernel any more.
    is_halted: bool,
}

impl<K: Kernel> Engine<K> {
    /// A loop over `kernel` that has seen nothing yet; `pods` are those attached before it started.
    pub fn new(setup: Setup, kernel: K, out: Outputs, pods: Vec<Pod>, findings: Findings) -> Self {
        let saver = Saver::new(setup.last_good.clone(), setup.disk_trouble.clone());
        Self {
            holdings: Holdings::new(setup.device),
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
            blamed: (Vec::new(), 0),
            trusted: false,
            since: SystemTime::now(),
            status: Status::default(),
            unheard: false,
            schedule: Schedule::new(),
            saver,
            is_halted: false,
        }
    }

    /// Starts from the disk, then runs until the senders of requests are gone. The kernel stays as it is then.
    pub async fn run(mut self, mut inputs: Inputs) -> anyhow::Result<()> {
        let mut events = self.kernel.events()?;
        self.in_use = self.setup.kept_underlay.load();
        self.start_from_disk();
        loop {
            let (at, due) = self.schedule.next();
            tokio::select! {
                biased;
                update = inputs.updates.recv() => match update {
                    Some(_) if self.is_halted => {}
                    Some(update) => self.update(update).await,
                    None => return Ok(()),
                },
                request = inputs.requests.recv() => match request {
                    Some(request) => self.requests(request, &mut inputs.requests).await,
                    None => return Ok(()),
                },
                () = sleep_until(at), if !self.is_halted => self.carry_out(due).await,
                event = events.recv() => match event {
                    Some(_) if self.is_halted => {}
                    Some(event) => self.event(&event),
                    None => anyhow::bail!("the kernel's events have ended; the agent cannot see drift and stops"),
                },
                Ok(()) = inputs.controller.changed() => {
                    self.controller = *inputs.controller.borrow_and_update();
                    self.look_within(Duration::ZERO);
                }
                () = inputs.findings.changed() => self.publish(),
            }
        }
    }

    async fn carry_out(&mut self, due: Due) {
        match due {
            Due::Look => self.look().await,
            Due::Pods => self.look_at_pods().await,
            Due::Mended => self.look_at_mended().await,
            Due::Tidy => self.tidy(),
        }
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
            Event::Object(key, seen) if self.holdings.is_as_wanted(key, seen.as_ref()) => self.seems_mended(*key),
            Event::Object(key, _) => {
                tracing::debug!("{key} was changed by somebody");
                match self.pod_of(key) {
                    Some(link) => self.pod_changed(link),
                    None => self.look_soon(),
                }
            }
            Event::PodLink(link) => self.pod_changed(*link),
            Event::Look | Event::Underlay | Event::Overflow => self.look_soon(),
        }
    }

    /// An event shows an object as it should be: if it deviated, it is read soon.
    fn seems_mended(&mut self, key: Key) {
        if self.holdings.deviations().contains_key(&key) {
            self.schedule.seems_mended(key);
        }
    }

    /// Brings the next full pass forward, to after what may follow an event.
    fn look_soon(&mut self) {
        self.schedule.after_event(self.status.is_fought_over());
    }

    /// Brings the next full pass forward.
    fn look_within(&mut self, delay: Duration) {
        self.schedule.look_within(delay, self.status.is_fought_over());
    }

    fn membership_changed(&mut self) {
        let (revision, digests) = (self.is_whole.then(|| self.view.revision()), Some(self.view.digests()));
        self.out.held.send_modify(|held| *held = Held { revision, digests, ..held.clone() });
        self.schedule.tidy_soon();
    }

    /// Work that may wait a little: the disk and the prober.
    fn tidy(&mut self) {
        self.schedule.tidied();
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
