//! What is, and what ever was, on the controller's disk.

use std::{
    collections::{BTreeMap, HashSet},
    net::IpAddr,
};

use weft_core::{
    membership::Member,
    types::{NodeName, PodCidr},
};

use super::super::{Checked, hold};
use crate::store::{NodeFacts, NodeRecord, TokenId, TokenRecord, Write};

/// The durable state, and its past.
#[derive(Debug, Default)]
pub(in super::super) struct Ledger {
    pub(in super::super) epoch: u64,
    pub(in super::super) nodes: BTreeMap<NodeName, NodeRecord>,
    pub(in super::super) quarantine: BTreeMap<PodCidr, NodeName>,
    /// Rises with every batch.
    pub(in super::super) version: u64,
    /// How often each node's facts were written that it told itself.
    pub(in super::super) told: BTreeMap<NodeName, u64>,
    /// Every value that any member ever had.
    ever: HashSet<Member>,
    /// How often each name ended.
    ended: BTreeMap<NodeName, u64>,
    /// Each join token: how often its node had ended when it was made, and whether it was used.
    tokens: BTreeMap<TokenId, (u64, bool)>,
    /// The highest life of every name.
    lives: BTreeMap<NodeName, u64>,
}

impl Ledger {
    /// The members that may be announced.
    pub(in super::super) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.nodes.values().filter_map(NodeRecord::member)
    }

    /// True where the member was written just like this at some time.
    pub(in super::super) fn ever_was(&self, member: &Member) -> bool {
        self.ever.contains(member)
    }

    /// True where a membership of that name has ended at some time.
    pub(in super::super) fn ever_ended(&self, name: &NodeName) -> bool {
        self.ended.contains_key(name)
    }

    /// True where the name has had that life, maybe a short one.
    pub(in super::super) fn ever_lived(&self, name: &NodeName, life: u64) -> bool {
        self.lives.get(name).is_some_and(|highest| *highest >= life)
    }

    /// The life of a name now.
    pub(in super::super) fn life(&self, name: &NodeName) -> Option<u64> {
        self.nodes.get(name).map(|node| node.incarnation)
    }

    /// Takes note of a batch as a whole, and checks what it makes of the state.
    pub(super) fn take(&mut self, batch: &[Write]) -> Checked {
        self.version += 1;
        let before = self.quarantine.clone();
        let mut left = Vec::new();
        for write in batch {
            match write {
                Write::Epoch(epoch) => {
                    hold!(*epoch > self.epoch, "epoch {epoch} was written after epoch {}", self.epoch);
                    self.epoch = *epoch;
                }
                Write::Node(node) => self.node(node, &before)?,
                Write::RemoveNode(name) => {
                    let node = self.nodes.remove(name);
                    left.extend(node.iter().flat_map(|node| node.pod_cidrs.iter().copied()));
                    *self.ended.entry(name.clone()).or_insert(0) += 1;
                }
                Write::Quarantine(entry) => drop(self.quarantine.insert(entry.cidr, entry.owner.clone())),
                Write::RemoveQuarantine(cidr) => drop(self.quarantine.remove(cidr)),
                Write::Token(token) => self.token(token)?,
                Write::Settings(_) | Write::RemoveToken(_) | Write::Life(_) | Write::RemoveLife(_) => {}
            }
        }
        let lost = left.iter().find(|cidr| !self.quarantine.contains_key(cidr));
        hold!(lost.is_none(), "{lost:?} is nobody's, and not in quarantine");
        self.disjoint()
    }

    /// A token is made once and used once, in the same life of its node's name.
    fn token(&mut self, token: &TokenRecord) -> Checked {
        let ended = self.ended.get(&token.node).copied().unwrap_or(0);
        let (made, is_used) = self.tokens.entry(token.id).or_insert((ended, false));
        let is_first_use = token.bound.is_some() && !std::mem::replace(is_used, token.bound.is_some());
        hold!(!is_first_use || *made == ended, "a token for {} counts after its deletion", token.node);
        Ok(())
    }

    fn node(&mut self, node: &NodeRecord, quarantine: &BTreeMap<PodCidr, NodeName>) -> Checked {
        let (name, life) = (&node.name, node.incarnation);
        let old = self.nodes.get(name);
        for cidr in node.pod_cidrs.iter().filter(|cidr| old.is_none_or(|old| !old.pod_cidrs.iter().any(|c| c == *cidr)))
        {
            let held = quarantine.keys().find(|held| held.overlaps(cidr));
            hold!(held.is_none(), "{name} was given {cidr}, which is in quarantine");
        }
        if is_told(self.nodes.get(name), node) {
            *self.told.entry(name.clone()).or_insert(0) += 1;
        }
        let highest = self.lives.entry(name.clone()).or_insert(0);
        let fell = if old.is_some() { life < *highest } else { life <= *highest };
        hold!(!fell, "a life of {name} repeats: {life} after {highest}");
        *highest = life;
        self.ever.extend(node.member());
        self.nodes.insert(name.clone(), node.clone());
        Ok(())
    }

    /// No CIDR and no underlay address has two holders.
    fn disjoint(&self) -> Checked {
        let mut cidrs: Vec<(PodCidr, &NodeName)> = self.quarantine.iter().map(|(cidr, owner)| (*cidr, owner)).collect();
        let mut addresses: BTreeMap<IpAddr, &NodeName> = BTreeMap::new();
        for (name, node) in &self.nodes {
            cidrs.extend(node.pod_cidrs.iter().map(|cidr| (*cidr, name)));
            for underlay in node.underlay().iter() {
                if let Some(other) = addresses.insert(underlay.address(), name) {
                    hold!(false, "{other} and {name} both have underlay address {underlay}");
                }
            }
        }
        cidrs.sort_unstable();
        for pair in cidrs.windows(2) {
            let [(a, one), (b, other)] = pair else { continue };
            hold!(!a.overlaps(b), "{one} with {a} and {other} with {b} share addresses in the store");
        }
        Ok(())
    }
}

/// True where what a node says of itself changed. An address that it lost it did not say.
fn is_told(old: Option<&NodeRecord>, new: &NodeRecord) -> bool {
    let told = |node: &NodeRecord| node.facts.clone().map(|facts| NodeFacts { generation: 0, ..facts });
    new.facts.is_some() && !new.underlay().is_empty() && old.map(told) != Some(told(new))
}
