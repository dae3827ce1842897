//! From what a store holds to the index of it.
//!
//! Owns which contradictions keep a cluster from starting, and what is left out of a record instead. Must never take from a node what no
//! other one claims.

use std::collections::{BTreeMap, HashMap, HashSet};

use weft_core::{
    alloc::{Allocator, ClaimError, PoolError, PoolRule},
    types::{Family, NodeName, PodCidr, Revision, UnderlayAddress},
};

use super::{Registry, facts::of_no_host, overlaps, proof::Underlays};
use crate::{
    cluster::admission::Admission,
    store::{NodeRecord, Stored},
};

/// What of the store contradicts the configuration, all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The pools themselves.
    #[error(transparent)]
    Pools(#[from] PoolError),
    /// Nodes that do not fit.
    #[error("the store and the configured pools contradict each other: {}: configure pools that cover the nodes' pod CIDRs, or delete those nodes first", joined(.0))]
    Nodes(Vec<Misfit>),
}

/// What of a record does not fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misfit {
    /// The pools were other ones when the node joined.
    #[error("node {node} has pod CIDR {cidr}, which no pool covers")]
    OutsidePools { node: NodeName, cidr: PodCidr },
    /// Two nodes say the same of themselves.
    #[error("nodes {one} and {other} both have underlay address {underlay}")]
    Shared { one: NodeName, other: NodeName, underlay: UnderlayAddress },
    /// Pods would have the addresses of hosts.
    #[error("underlay network {underlay} of node {node} overlaps pool {pool}")]
    InPool { underlay: UnderlayAddress, node: NodeName, pool: PodCidr },
    /// Somebody else has its pod CIDR.
    #[error(transparent)]
    Claim(#[from] ClaimError),
}

fn joined(misfits: &[Misfit]) -> String {
    misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Registry {
    /// Indexes what a store holds. A quarantined CIDR counts as released at `released(cidr)`.
    pub(in crate::cluster) fn new(
        stored: Stored,
        rules: &[PoolRule],
        mut admission: Admission,
        released: impl Fn(&PodCidr) -> Revision,
    ) -> Result<Self, RegistryError> {
        stored.lives.iter().for_each(|life| admission.departed(&life.node));
        let mut registry = Self {
            nodes: BTreeMap::new(),
            tokens: stored.tokens.into_iter().map(|token| (token.id, token)).collect(),
            lives: stored.lives.into_iter().map(|life| (life.node.clone(), life)).collect(),
            allocator: Allocator::new(rules.iter().map(|rule| rule.pool).collect())?,
            addresses: HashMap::new(),
            underlays: Underlays::default(),
            macs: HashSet::new(),
            pools: rules.iter().map(|rule| rule.pool.cidr()).collect(),
            rules: rules.to_vec(),
            admission,
            held: BTreeMap::new(),
        };
        let mut problems = Vec::new();
        for node in stored.nodes.into_iter().map(Self::without_addresses_of_no_host) {
            if registry.admission.trims_records() {
                registry.adopt_what_fits(node);
            } else {
                problems.extend(registry.adopt(node).err());
            }
        }
        for entry in stored.quarantine {
            // One outside today's pools is in quarantine too: it may come back into a pool later.
            let revision = released(&entry.cidr);
            let claimed = registry.allocator.quarantine(entry.cidr, &entry.owner, revision);
            problems.extend(claimed.err().map(Misfit::from));
        }
        for held in stored.held {
            if registry.allocator.claim(held.cidr, &held.owner).is_ok() {
                registry.held.insert(held.cidr, held.owner);
            }
        }
        if !problems.is_empty() && !registry.admission.trims_records() {
            return Err(RegistryError::Nodes(problems));
        }
        problems.iter().for_each(|problem| tracing::warn!("in the store: {problem}"));
        Ok(registry)
    }

    /// Takes from a record the addresses that no host can have, which version 0.1 accepted.
    fn without_addresses_of_no_host(mut node: NodeRecord) -> NodeRecord {
        for family in Family::ALL {
            let Some(underlay) = *node.underlay().get(family) else { continue };
            if let Some(what) = of_no_host(&underlay) {
                let name = &node.name;
                tracing::warn!(node = %name, "its underlay address {underlay} is the {what} of its prefix: it is left out until another is reported");
                node.forget_underlay(family);
            }
        }
        node
    }

    /// Adopts of a record what does not contradict others: one bad object must not keep a whole cluster from starting.
    fn adopt_what_fits(&mut self, mut node: NodeRecord) {
        let name = node.name.clone();
        for family in Family::ALL {
            let Some(cidr) = *node.pod_cidrs.get(family) else { continue };
            if !self.pools.iter().any(|pool| pool.covers(&cidr)) {
                tracing::warn!(node = %name, %cidr, "its pod CIDR is in no pool any more: it keeps it until its Node is deleted");
            }
            if let Err(error) = self.allocator.claim(cidr, &name) {
                tracing::error!(node = %name, "its pod CIDR is left out: {error}");
                *node.pod_cidrs.get_mut(family) = None;
            }
        }
        for family in Family::ALL {
            let Some(underlay) = *node.underlay().get(family) else { continue };
            if let Some(other) = self.addresses.get(&underlay.address()) {
                tracing::error!(node = %name, %other, "both have underlay address {underlay}: it is left out until reported again");
                node.forget_underlay(family);
            }
        }
        for underlay in node.underlay().iter() {
            self.addresses.insert(underlay.address(), name.clone());
        }
        self.macs.insert(node.endpoint.mac());
        self.nodes.insert(name, node);
    }

    fn adopt(&mut self, node: NodeRecord) -> Result<(), Misfit> {
        let name = || node.name.clone();
        for cidr in node.pod_cidrs.iter() {
            if !self.pools.iter().any(|pool| pool.covers(cidr)) {
                return Err(Misfit::OutsidePools { node: name(), cidr: *cidr });
            }
            self.allocator.claim(*cidr, &node.name)?;
        }
        for underlay in node.underlay().iter() {
            if let Some(other) = self.addresses.insert(underlay.address(), node.name.clone()) {
                return Err(Misfit::Shared { one: other, other: name(), underlay: *underlay });
            }
            if let Some(pool) = self.pools.iter().find(|pool| overlaps(pool, underlay.network())) {
                return Err(Misfit::InPool { underlay: *underlay, node: name(), pool: *pool });
            }
        }
        self.macs.insert(node.endpoint.mac());
        self.nodes.insert(node.name.clone(), node);
        Ok(())
    }
}
