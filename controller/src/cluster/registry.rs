//! What the store holds, indexed.
//!
//! Owns nodes, tokens, ended lives and the allocation of pod CIDRs; [`join`](super::join), [`admit`](super::admit) and
//! [`facts`](super::facts) change them. Each change is checked as a whole before anything is touched, and comes back as the writes that make it
//! durable; where the store does not confirm them, the registry is built anew from what the store holds. Must never
//! know who is connected, nor what time it is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use weft_core::{
    alloc::{Allocator, PoolError, PoolRule},
    membership::Member,
    types::{Family, Mac, NodeName, PodCidr, Revision},
};

use super::{Admission, NodeIdentity, Refusal, admit::FromNodes, facts::of_no_host, proof::Underlays, roll::judge};
use crate::store::{Life, NodeRecord, Quarantined, Stored, TokenId, TokenRecord, Write};

/// What of the store contradicts the configuration, all of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    /// The pools themselves.
    #[error(transparent)]
    Pools(#[from] PoolError),
    /// Nodes that do not fit.
    #[error("the store and the configured pools contradict each other: {}: configure pools that cover the nodes' pod CIDRs, or delete those nodes first", .0.join("; "))]
    Nodes(Vec<String>),
}

/// Acknowledged by nobody.
pub(super) const NEVER: Revision = Revision::new(u64::MAX, u64::MAX);

/// The durable part of the cluster's state.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) nodes: BTreeMap<NodeName, NodeRecord>,
    pub(super) tokens: HashMap<TokenId, TokenRecord>,
    pub(super) lives: HashMap<NodeName, Life>,
    pub(super) allocator: Allocator,
    /// Who has an underlay address.
    pub(super) addresses: HashMap<IpAddr, NodeName>,
    /// What else is known of such addresses.
    pub(super) underlays: Underlays,
    pub(super) macs: HashSet<Mac>,
    pub(super) pools: Vec<PodCidr>,
    pub(super) rules: Vec<PoolRule>,
    pub(super) admission: Admission,
    /// Pod CIDRs that are kept for nodes which are no members yet.
    pub(super) held: BTreeMap<PodCidr, NodeName>,
    /// Names whose ended life the store remembers only until everybody has let its pod CIDRs go.
    pub(super) departing: BTreeSet<NodeName>,
    pub(super) from_nodes: FromNodes,
}

/// A change: what to write, and whose entry in the membership may differ afterwards.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changed {
    pub(super) writes: Vec<Write>,
    pub(super) touched: Vec<NodeName>,
    /// Who lost which address to somebody who proved it: if they are connected, they do not know yet.
    pub(super) losers: Vec<(NodeName, IpAddr)>,
}

impl Registry {
    /// Indexes what a store holds. A quarantined CIDR counts as released at `released(cidr)`.
    pub(super) fn new(
        stored: Stored,
        rules: &[PoolRule],
        admission: Admission,
        released: impl Fn(&PodCidr) -> Revision,
    ) -> Result<Self, RegistryError> {
        let mut registry = Self {
            nodes: BTreeMap::new(),
            tokens: stored.tokens.into_iter().map(|token| (token.id, token)).collect(),
            departing: stored.lives.iter().map(|life| life.node.clone()).collect(),
            lives: stored.lives.into_iter().map(|life| (life.node.clone(), life)).collect(),
            allocator: Allocator::new(rules.iter().map(|rule| rule.pool).collect())?,
            addresses: HashMap::new(),
            underlays: Underlays::default(),
            macs: HashSet::new(),
            pools: rules.iter().map(|rule| rule.pool.cidr()).collect(),
            rules: rules.to_vec(),
            admission,
            held: BTreeMap::new(),
            from_nodes: FromNodes::default(),
        };
        let mut problems = Vec::new();
        for node in stored.nodes.into_iter().map(Self::without_addresses_of_no_host) {
            match admission {
                Admission::Tokens => problems.extend(registry.adopt(node).err()),
                Admission::Nodes(_) => registry.adopt_what_fits(node),
            }
        }
        for entry in stored.quarantine {
            // One outside today's pools is in quarantine too: it may come back into a pool later.
            let revision = released(&entry.cidr);
            if let Err(error) = registry.allocator.quarantine(entry.cidr, &entry.owner, revision) {
                problems.push(error.to_string());
            }
        }
        for held in stored.held {
            if registry.allocator.claim(held.cidr, &held.owner).is_ok() {
                registry.held.insert(held.cidr, held.owner);
            }
        }
        match admission {
            Admission::Tokens if !problems.is_empty() => return Err(RegistryError::Nodes(problems)),
            _ => problems.iter().for_each(|problem| tracing::warn!("in the store: {problem}")),
        }
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

    fn adopt(&mut self, node: NodeRecord) -> Result<(), String> {
        for cidr in node.pod_cidrs.iter() {
            if !self.pools.iter().any(|pool| pool.covers(cidr)) {
                return Err(format!("node {} has pod CIDR {cidr}, which no pool covers", node.name));
            }
            self.allocator.claim(*cidr, &node.name).map_err(|error| error.to_string())?;
        }
        for underlay in node.underlay().iter() {
            if let Some(other) = self.addresses.insert(underlay.address(), node.name.clone()) {
                return Err(format!("nodes {other} and {} both have underlay address {underlay}", node.name));
            }
            if let Some(pool) = self.pools.iter().find(|pool| overlaps(pool, underlay.network())) {
                return Err(format!("underlay network {underlay} of node {} overlaps pool {pool}", node.name));
            }
        }
        self.macs.insert(node.endpoint.mac());
        self.nodes.insert(node.name.clone(), node);
        Ok(())
    }

    /// The members there are to announce: those that have reported facts once.
    pub(super) fn announced(&self) -> impl Iterator<Item = Member> + '_ {
        self.nodes.values().filter_map(NodeRecord::member)
    }

    /// Refuses certificates of nodes that are not, or not any more, what the certificate says.
    pub(super) fn check(&self, identity: &NodeIdentity, now_unix: i64) -> Result<(), Refusal> {
        let current = self.nodes.get(&identity.name).map(|node| node.incarnation);
        judge(self.admission, identity, current, now_unix)
    }

    /// Adds a token, and drops those that have expired: nothing else would.
    pub(super) fn add_token(&mut self, token: TokenRecord, now_unix: i64) -> Changed {
        let old = |other: &&TokenRecord| other.expires_unix <= now_unix;
        let expired: Vec<TokenId> = self.tokens.values().filter(old).map(|other| other.id).collect();
        let mut writes: Vec<Write> = expired.iter().map(|id| Write::RemoveToken(*id)).collect();
        expired.iter().for_each(|id| drop(self.tokens.remove(id)));
        writes.push(Write::Token(token.clone()));
        self.tokens.insert(token.id, token);
        Changed { writes, ..Changed::default() }
    }

    /// Gives every node a CIDR of each family that there are pools of; none is given where a pool has run out.
    pub(super) fn complete(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        for (name, node) in &mut self.nodes {
            let before = node.pod_cidrs;
            for family in Family::ALL {
                let cidr = node.pod_cidrs.get_mut(family);
                *cidr = cidr.or_else(|| self.allocator.allocate(family, name).ok());
            }
            if node.pod_cidrs != before {
                writes.push(Write::Node(node.clone()));
            }
        }
        writes
    }

    /// The departure of a CIDR's owner was announced at `revision`: who has acknowledged that has let it go.
    /// False where it is in no quarantine any more.
    pub(super) fn released(&mut self, cidr: PodCidr, owner: &NodeName, revision: Revision) -> bool {
        let waits = self.allocator.clear(&cidr);
        if waits {
            self.allocator.quarantine(cidr, owner, revision).expect("it was in quarantine just now, so nobody has it");
        }
        waits
    }

    /// Ends a membership, at `now_unix`: the name's life is over, its tokens are void, its CIDRs go into quarantine, from which
    /// nothing comes out before [`Self::released`] has said when the departure was announced.
    pub(super) fn delete(&mut self, name: &NodeName, now_unix: i64) -> Result<(Changed, Vec<PodCidr>), Refusal> {
        let Some(node) = self.nodes.remove(name) else { return Err(Refusal::UnknownNode { node: name.clone() }) };
        let life = Life { node: name.clone(), incarnation: node.incarnation, ended_unix: now_unix };
        let mut writes = vec![Write::RemoveNode(name.clone()), Write::Life(life.clone())];
        self.lives.insert(name.clone(), life);
        self.departing.insert(name.clone());
        self.macs.remove(&node.endpoint.mac());
        for underlay in node.underlay().iter() {
            self.addresses.remove(&underlay.address());
        }
        let void: Vec<TokenId> =
            self.tokens.values().filter(|token| token.node == *name).map(|token| token.id).collect();
        for id in void {
            self.tokens.remove(&id);
            writes.push(Write::RemoveToken(id));
        }
        let cidrs: Vec<PodCidr> = node.pod_cidrs.iter().copied().collect();
        for cidr in &cidrs {
            self.allocator.release(*cidr, NEVER);
        }
        writes.extend(cidrs.iter().map(|cidr| Write::Quarantine(Quarantined { cidr: *cidr, owner: name.clone() })));
        Ok((Changed { writes, touched: vec![name.clone()], ..Changed::default() }, cidrs))
    }
}

/// True where the two share an address.
pub(super) fn overlaps(pool: &PodCidr, network: ipnetwork::IpNetwork) -> bool {
    pool.contains(network.ip()) || pool.contains(network.network()) || network.contains(pool.network().ip())
}
