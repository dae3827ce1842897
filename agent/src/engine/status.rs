//! How this node stands, for the controller, the local API, metrics and CNI.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use weft_core::{
    desired::{self, Underlay},
    settings::Settings,
    standing::{self, Health, PeerProblem, Reason},
    types::{PerFamily, PodCidr, Revision},
};

use super::{Engine, NAMED_PEERS};
use crate::{controller::Standing, kernel::Kernel};

/// So many repairs within [`FIGHT_SPAN`] mean that somebody works against us.
const FIGHT: usize = 20;
const FIGHT_SPAN: Duration = Duration::from_secs(10);

/// Why a node is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which kind.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// True where the node's own objects are not known to be whole.
    pub keeps_pods_out: bool,
}

impl Problem {
    /// A problem.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), keeps_pods_out: true }
    }

    /// One with which pods can come, and reach each other here.
    pub(super) fn beside_pods(self) -> Self {
        Self { keeps_pods_out: false, ..self }
    }
}

/// How this node stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// What is wrong; none where the kernel was read back to hold everything.
    pub problem: Option<Problem>,
    /// True where pods can come: a pass has ended since the start, and the last one found the node's own objects whole.
    pub ready: bool,
    /// The newest revision that the kernel was read back to hold.
    pub applied: Option<Revision>,
    /// The cluster's settings, once known.
    pub settings: Option<Arc<Settings>>,
    /// The underlay in use.
    pub underlay: Option<Underlay>,
    /// This node's pod CIDRs.
    pub pod_cidrs: PerFamily<Option<PodCidr>>,
    /// MTU for pods in bytes, once known.
    pub pod_mtu: Option<u32>,
    /// Kernel objects held.
    pub objects: usize,
    /// Members of the cluster.
    pub members: usize,
    /// Pods whose host side is programmed.
    pub pods: usize,
    /// Objects put back since the start.
    pub repairs: u64,
    /// When the last was put back.
    pub last_repair: Option<SystemTime>,
    recent: VecDeque<SystemTime>,
}

impl Status {
    pub(super) fn note_repair(&mut self, objects: usize, now: SystemTime) {
        self.repairs += objects as u64;
        self.last_repair = Some(now);
        self.recent.push_back(now);
        if self.recent.len() > FIGHT {
            self.recent.pop_front();
        }
    }

    /// True while repairs come so often that somebody must be undoing them.
    pub(super) fn is_fought_over(&self) -> bool {
        let old = self.recent.front().and_then(|first| first.elapsed().ok());
        self.recent.len() >= FIGHT && old.is_some_and(|age| age < FIGHT_SPAN)
    }
}

impl<K: Kernel> Engine<K> {
    /// Tells everybody how this node stands, if that changed.
    pub(super) fn publish(&mut self) {
        self.refresh_status();
        let status = &self.status;
        self.out.status.send_if_modified(|told| {
            let changed = told != status;
            if changed {
                told.clone_from(status);
            }
            changed
        });
        let standing = Standing { applied: self.status.applied, health: self.health() };
        self.out.standing.send_if_modified(|told| {
            let changed = *told != standing;
            *told = standing;
            changed
        });
    }

    fn refresh_status(&mut self) {
        let me = self.view.member(&self.setup.node);
        let keeps_pods_out = self.status.problem.as_ref().is_some_and(|problem| problem.keeps_pods_out);
        self.status.ready = !keeps_pods_out && self.view.settings().is_some();
        if self.status.ready {
            self.status.applied = Some(self.view.revision());
        }
        self.status.settings = self.view.settings().cloned();
        self.status.underlay = self.local.as_ref().map(|local| local.underlay.clone());
        self.status.pod_cidrs = me.map(|me| me.pod_cidrs).unwrap_or_default();
        self.status.pod_mtu = self.context().map(|(settings, me, local)| desired::pod_mtu(&settings, &me, &local));
        self.status.objects = self.holdings.held();
        self.status.members = self.view.len();
    }

    fn health(&self) -> Health {
        let ((mut peers, mut count), mut healthy) = (self.blamed.clone(), 0);
        self.findings.with(|table| {
            healthy = table.answering();
            for (name, family, since) in table.lost_peers() {
                count += 1;
                if peers.len() < NAMED_PEERS {
                    peers.push(PeerProblem {
                        node: name.clone(),
                        reason: Reason::ProbeLost,
                        message: format!("no answer to {family} probes"),
                        since: since.into(),
                    });
                }
            }
        });
        peers.sort_by(|a, b| (&a.node, &a.message).cmp(&(&b.node, &b.message)));
        let own =
            |problem: &Problem| standing::Problem { reason: problem.reason.clone(), message: problem.message.clone() };
        Health {
            problem: self.status.problem.as_ref().map(own),
            peers,
            problem_count: count,
            healthy_count: u32::try_from(healthy).unwrap_or(u32::MAX),
        }
    }
}
