//! Who gives pod CIDRs to the Nodes, by what the Nodes carry.
//!
//! Owns the conclusion, where the configuration leaves it open. Pure. One Node of another kind must never decide for a whole
//! cluster: where any Node carries a pod CIDR of ours we allocate, and whoever else gave another its own is that Node's problem.

use std::collections::BTreeMap;

use weft_core::types::{NodeName, PodCidr};

use crate::{cluster::NodeSeen, config::NodeCidrs};

/// Where the pod CIDRs of a Node come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// We wrote them.
    Ours,
    /// Somebody else did, from our pools.
    FromPools,
    /// Somebody else did, and this one is in no pool.
    Outside(PodCidr),
}

/// What the Nodes that have pod CIDRs carry.
#[derive(Debug, Default)]
pub(super) struct Evidence(BTreeMap<NodeName, Carried>);

impl Evidence {
    /// Takes note of a Node as it is now.
    pub(super) fn note(&mut self, seen: &NodeSeen, pools: &[PodCidr]) {
        let outside = seen.pod_cidrs.iter().find(|cidr| !pools.iter().any(|pool| pool.covers(cidr)));
        let carried = match outside {
            _ if seen.pod_cidrs.is_empty() => return self.forget(&seen.name),
            _ if seen.cidrs_are_ours => Carried::Ours,
            None => Carried::FromPools,
            Some(cidr) => Carried::Outside(*cidr),
        };
        self.0.insert(seen.name.clone(), carried);
    }

    /// The Node is gone, or says nothing.
    pub(super) fn forget(&mut self, name: &NodeName) {
        self.0.remove(name);
    }

    /// Who allocates; none where every Node that has a pod CIDR has one from outside the pools: then somebody allocates, and
    /// not from what we were told.
    pub(super) fn allocator(&self) -> Option<NodeCidrs> {
        let any = |wanted: fn(&Carried) -> bool| self.0.values().any(wanted);
        if any(|carried| *carried == Carried::Ours) || self.0.is_empty() {
            Some(NodeCidrs::Weft)
        } else if any(|carried| *carried == Carried::FromPools) {
            Some(NodeCidrs::KubeControllerManager)
        } else {
            None
        }
    }

    /// A Node whose pod CIDR is in no pool and not ours.
    pub(super) fn outside(&self) -> Option<(&NodeName, PodCidr)> {
        self.0.iter().find_map(|(name, carried)| match carried {
            Carried::Outside(cidr) => Some((name, *cidr)),
            _ => None,
        })
    }
}
