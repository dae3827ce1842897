//! How every node stands, typed, for those who tell Kubernetes.
//!
//! Owns the selection: of one node everything that the peer list shows, and what it leaves out because people would not
//! read it. Must never judge anything: [`judge`](super::judge) has done that.

use std::{collections::HashMap, sync::Arc};

use weft_core::{
    membership::Member,
    standing::{Health, Reason, State},
    types::{Family, NodeName, PerFamily, PodCidr, Revision, UnderlayAddress, UnixMs},
};

use super::{
    super::{Refusal, actor::Actor},
    judge::Probed,
    paths,
};
use crate::store::NodeRecord;

/// How one node stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeStanding {
    pub(crate) name: NodeName,
    pub(crate) pod_cidrs: PerFamily<Option<PodCidr>>,
    pub(crate) underlay: PerFamily<Option<UnderlayAddress>>,
    pub(crate) state: State,
    /// None if it is ready.
    pub(crate) reason: Option<Reason>,
    /// A sentence for people; empty where it is ready.
    pub(crate) message: String,
    /// What keeps its Node from having pod CIDRs, or from having those that its spec names.
    pub(crate) problem: Option<Refusal>,
    /// Since when it is in this state as far as this term knows, Unix time in milliseconds.
    pub(crate) since: Option<UnixMs>,
    /// Its agent's stream is open.
    pub(crate) is_connected: bool,
    /// Its agent has told facts once, in this life of the node.
    pub(crate) has_reported: bool,
    /// What other nodes' probes say.
    pub(crate) probed: Probed,
    /// How many nodes reach it by which path, for each family it has a pod CIDR of.
    pub(crate) paths: Vec<(Family, paths::Reach)>,
    /// What it last acknowledged in this term, and when (Unix time in milliseconds).
    pub(crate) applied: Option<(Revision, UnixMs)>,
    /// Changes that it has not acknowledged.
    pub(crate) lag: u64,
    /// What its agent last said of itself and its peers; none without a stream.
    pub(crate) health: Option<Health>,
}

impl NodeStanding {
    /// True where pods can be addressed on it, its kernel was read back to hold a whole membership of this term, and its
    /// agent names no problem of its network. Pods that its earlier pod CIDRs left behind are none: new ones are the remedy.
    pub(crate) fn is_programmed(&self) -> bool {
        !self.pod_cidrs.is_empty()
            && self.applied.is_some()
            && self
                .health
                .as_ref()
                .is_some_and(|health| matches!(health.reason(), None | Some(Reason::PodsOutsideCidr)))
    }
}

impl Actor {
    /// How all nodes stand, by name.
    pub(in crate::cluster) fn node_standings(&mut self) -> Arc<Vec<NodeStanding>> {
        self.refresh_peers();
        let members: Vec<Member> = self.registry.announced().collect();
        let members: Vec<&Member> = members.iter().collect();
        let settings = &self.rules.settings;
        let reach = Family::ALL.map(|family| (family, paths::count(&members, family, settings)));
        let standing = |(name, node): (&NodeName, &NodeRecord)| {
            let path = |(family, counts): &(Family, HashMap<&NodeName, paths::Reach>)| {
                node.pod_cidrs.get(*family).as_ref()?;
                Some((*family, counts.get(name).copied().unwrap_or_default()))
            };
            self.node_standing(node, reach.iter().filter_map(path).collect())
        };
        Arc::new(self.registry.nodes().iter().map(standing).collect())
    }

    fn node_standing(&self, node: &NodeRecord, paths: Vec<(Family, paths::Reach)>) -> NodeStanding {
        let standing = self.peers.standings.get(&node.name);
        let judgement = standing.map(|standing| standing.judgement.clone()).unwrap_or_default();
        let live = self.sessions.get(&node.name);
        let acknowledged = live.and_then(|live| Some((live.acknowledged?, live.acknowledged_at?)));
        let newest = self.publisher.published();
        NodeStanding {
            name: node.name.clone(),
            pod_cidrs: node.pod_cidrs,
            underlay: node.underlay(),
            state: judgement.state,
            reason: judgement.reason,
            message: judgement.message,
            problem: self.registry.admission().problem(&node.name).cloned(),
            since: standing.map(|standing| standing.since),
            is_connected: live.is_some(),
            has_reported: node.facts.is_some(),
            probed: standing.map(|standing| standing.probed.clone()).unwrap_or_default(),
            paths,
            applied: acknowledged.map(|(sequence, at)| (Revision::new(self.epoch, sequence), at)),
            lag: newest - acknowledged.map_or(0, |(sequence, _)| sequence).min(newest),
            health: live.map(|live| live.health.clone()),
        }
    }
}
