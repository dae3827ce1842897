//! What the store holds, indexed.
//!
//! Owns nodes, tokens, ended lives and the allocation of pod CIDRs; [`join`], [`admit`] and [`facts`] change them. Each change is checked as a whole before anything is touched, and comes back as the writes that make it
//! durable; where the store does not confirm them, the registry is built anew from what the store holds. Must never
//! know who is connected, nor what time it is.

mod admit;
mod facts;
mod join;
mod lives;
mod load;
mod proof;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use weft_core::{
    alloc::{Allocator, PoolRule},
    membership::Member,
    types::{Family, Mac, NodeName, PodCidr, Revision},
};

pub(super) use self::admit::Outcome;
pub(crate) use self::load::RegistryError;
use self::proof::Underlays;
use super::{NodeIdentity, NodeSeen, Refusal, admission::Admission, roll::judge};
use crate::store::{Life, NodeRecord, Quarantined, TokenId, TokenRecord, Write};

/// Acknowledged by nobody.
pub(super) const NEVER: Revision = Revision::new(u64::MAX, u64::MAX);

/// The durable part of the cluster's state.
#[derive(Debug)]
pub(super) struct Registry {
    nodes: BTreeMap<NodeName, NodeRecord>,
    tokens: HashMap<TokenId, TokenRecord>,
    lives: HashMap<NodeName, Life>,
    allocator: Allocator,
    /// Who has an underlay address.
    addresses: HashMap<IpAddr, NodeName>,
    /// What else is known of such addresses.
    underlays: Underlays,
    macs: HashSet<Mac>,
    pools: Vec<PodCidr>,
    rules: Vec<PoolRule>,
    admission: Admission,
    /// Pod CIDRs that are kept for nodes which are no members yet.
    held: BTreeMap<PodCidr, NodeName>,
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
    /// The nodes by name.
    pub(super) const fn nodes(&self) -> &BTreeMap<NodeName, NodeRecord> {
        &self.nodes
    }

    /// Who has which pod CIDR.
    pub(super) const fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// How nodes become members.
    pub(super) const fn admission(&self) -> &Admission {
        &self.admission
    }

    /// It was built anew from the store, which does not say what `before` knew.
    pub(super) fn go_on_from(&mut self, before: Self) {
        self.admission.go_on_from(before.admission);
        self.underlays = before.underlays;
    }

    /// These Nodes are like this now. True where that decides anew who gives pod CIDRs.
    pub(super) fn note_nodes(&mut self, seen: &[NodeSeen]) -> bool {
        self.admission.note_all(seen, &self.pools)
    }

    /// Decides who gives pod CIDRs, where the configuration leaves it open. True where that is another one than before.
    pub(super) fn decide_allocator(&mut self) -> bool {
        self.admission.decide()
    }

    /// These are out of quarantine.
    pub(super) fn freed(&mut self, cidrs: &[PodCidr]) {
        for cidr in cidrs {
            self.allocator.clear(cidr);
        }
    }

    /// Where its object shows what is waited for, a departed node is remembered for as long as one of its pod CIDRs is in quarantine and not
    /// `due` to come out.
    pub(super) fn forget_departed(&mut self, due: &[PodCidr]) -> Vec<Write> {
        let departed = self.allocator.departed();
        let waiting = || departed.filter(|(cidr, _)| !due.contains(cidr)).map(|(_, owner)| owner).collect();
        self.admission.forget_departed(waiting).into_iter().map(Write::RemoveLife).collect()
    }

    /// A member connects to this address of the controller.
    pub(super) fn note_own(&mut self, address: IpAddr) {
        self.underlays.note_own(address);
    }

    /// A life that has ended proves nothing for the next one.
    pub(super) fn forget_proof(&mut self, name: &NodeName) {
        if self.nodes.get(name).is_none_or(|node| node.facts.is_none()) {
            self.underlays.forget(name);
        }
    }

    /// For planted bugs: what is proven.
    #[cfg(test)]
    pub(super) const fn underlays(&mut self) -> &mut Underlays {
        &mut self.underlays
    }

    /// The members there are to announce: those that have reported facts once.
    pub(super) fn announced(&self) -> impl Iterator<Item = Member> + '_ {
        self.nodes.values().filter_map(NodeRecord::member)
    }

    /// Refuses certificates of nodes that are not, or not any more, what the certificate says.
    pub(super) fn check(&self, identity: &NodeIdentity, now_unix: i64) -> Result<(), Refusal> {
        let current = self.nodes.get(&identity.name).map(|node| node.incarnation);
        judge(self.admission.rule(), identity, current, now_unix)
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

    /// What a new term writes, at `now_unix`; ended lives are `kept` for so many seconds. Addresses that nobody proves lie in `networks`.
    pub(super) fn begin(&mut self, networks: &[IpNetwork], now_unix: i64, kept: i64) -> Vec<Write> {
        self.underlays.networks = networks.to_vec();
        if !self.admission.completes_records() {
            return Vec::new();
        }
        let mut writes = self.complete();
        writes.extend(self.forget_lives(now_unix, kept));
        writes
    }

    /// Gives every node a CIDR of each family that there are pools of; none is given where a pool has run out.
    fn complete(&mut self) -> Vec<Write> {
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

    /// Ends a membership, at `ended_unix` where that counts: the name's life is over, its tokens are void, its CIDRs go into quarantine, from which
    /// nothing comes out before [`Self::released`] has said when the departure was announced.
    pub(super) fn delete(
        &mut self,
        name: &NodeName,
        ended_unix: Option<i64>,
    ) -> Result<(Changed, Vec<PodCidr>), Refusal> {
        let Some(node) = self.nodes.remove(name) else { return Err(Refusal::UnknownNode { node: name.clone() }) };
        let life = Life { node: name.clone(), incarnation: node.incarnation, ended_unix };
        let mut writes = vec![Write::RemoveNode(name.clone()), Write::Life(life.clone())];
        self.lives.insert(name.clone(), life);
        self.admission.departed(name);
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
pub(super) fn overlaps(pool: &PodCidr, network: IpNetwork) -> bool {
    pool.contains(network.ip()) || pool.contains(network.network()) || network.contains(pool.network().ip())
}
