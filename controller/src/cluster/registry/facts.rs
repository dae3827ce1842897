//! Facts that agents report.
//!
//! Owns the check of underlay addresses: each belongs to one node. Proof is the address that a stream comes from, and proven beats
//! unproven, whoever was first ([`proof`](super::proof)): neither a lost machine blocks its address, nor can a node that was taken
//! over collect those of its neighbours before they come. Must never trust a node about anybody but itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use weft_core::{
    standing::Facts,
    types::{Family, NodeName, PerFamily, UnderlayAddress},
};

use super::{Changed, Registry, overlaps};
use crate::{
    cluster::Refusal,
    store::{NodeFacts, NodeRecord, Write},
};

impl Registry {
    /// Takes the facts of a member that connects from `source`, given who else is connected.
    pub(in crate::cluster) fn take_facts(
        &mut self,
        name: &NodeName,
        facts: &Facts,
        source: IpAddr,
        is_connected: impl Fn(&NodeName) -> bool,
    ) -> Result<Changed, Refusal> {
        let registered = self.nodes.get(name).map(NodeRecord::underlay);
        let facts = &self.admission.check_address(name, facts, registered)?;
        self.check_underlay(name, facts)?;
        let losers = self.losers(name, facts, source, is_connected)?;
        let Some(node) = self.nodes.get(name) else { return Err(Refusal::UnknownNode { node: name.clone() }) };
        let mut fresh = node.clone();
        fresh.facts = Some(NodeFacts {
            underlay: facts.underlay,
            underlay_mtu: facts.underlay_mtu,
            agent_version: facts.agent_version.clone(),
            generation: facts.generation,
        });
        if fresh == *node {
            self.underlays.note(name, facts, source);
            return Ok(Changed::default());
        }
        let old = node_addresses(&node.underlay());
        let mut changed = Changed::default();
        for loser in losers.keys() {
            self.take_away(loser, facts, &mut changed);
        }
        for address in old.filter(|address| self.addresses.get(address) == Some(name)).collect::<Vec<_>>() {
            self.addresses.remove(&address);
        }
        for address in node_addresses(&facts.underlay) {
            self.addresses.insert(address, name.clone());
        }
        self.underlays.note(name, facts, source);
        changed.losers = losers.into_iter().collect();
        changed.writes.push(Write::Node(fresh.clone()));
        changed.touched.push(name.clone());
        self.nodes.insert(name.clone(), fresh);
        Ok(changed)
    }

    /// An underlay address that the node has registered and its Node object does not list any more.
    pub(in crate::cluster) fn strayed(&self, name: &NodeName) -> Option<Refusal> {
        let registered = self.nodes.get(name)?.underlay();
        self.admission.strayed(name, node_addresses(&registered))
    }

    fn check_underlay(&self, name: &NodeName, facts: &Facts) -> Result<(), Refusal> {
        for underlay in facts.underlay.iter() {
            if let Some(what) = of_no_host(underlay) {
                return Err(Refusal::AddressOfNoHost { underlay: underlay.network(), node: name.clone(), what });
            }
            if let Some(pool) = self.pools.iter().find(|pool| overlaps(pool, underlay.network())) {
                return Err(Refusal::AddressInPool { underlay: underlay.network(), node: name.clone(), pool: *pool });
            }
        }
        Ok(())
    }

    /// Who loses which address to the claimant.
    fn losers(
        &self,
        name: &NodeName,
        facts: &Facts,
        source: IpAddr,
        is_connected: impl Fn(&NodeName) -> bool,
    ) -> Result<BTreeMap<NodeName, IpAddr>, Refusal> {
        let claimed: BTreeSet<IpAddr> = node_addresses(&facts.underlay).collect();
        let mut losers = BTreeMap::new();
        for address in &claimed {
            let loser = self.believe(name, *address, source, &claimed, &is_connected)?;
            losers.extend(loser.map(|loser| (loser, *address)));
        }
        Ok(losers)
    }

    fn take_away(&mut self, loser: &NodeName, facts: &Facts, changed: &mut Changed) {
        let Some(node) = self.nodes.get_mut(loser) else { return };
        for family in Family::ALL {
            let held = node.underlay().get(family).map(|held| held.address());
            let claimed = facts.underlay.get(family).map(|claimed| claimed.address());
            if held.is_some() && held == claimed {
                node.forget_underlay(family);
            }
        }
        changed.writes.push(Write::Node(node.clone()));
        changed.touched.push(loser.clone());
    }
}

pub(in crate::cluster) fn node_addresses(
    underlay: &PerFamily<Option<UnderlayAddress>>,
) -> impl Iterator<Item = IpAddr> + use<> {
    [underlay.v4, underlay.v6].into_iter().flatten().map(|underlay| underlay.address())
}

/// What an address is that cannot be a host's inside its own prefix; no node could have a route by it. Point-to-point prefixes
/// give all their addresses to hosts (RFC 3021; RFC 6164).
pub(in crate::cluster) fn of_no_host(underlay: &UnderlayAddress) -> Option<&'static str> {
    let (network, address) = (underlay.network(), underlay.address());
    match underlay.family() {
        Family::V4 if underlay.prefix() > 30 => None,
        Family::V4 if address == network.network() => Some("network address"),
        Family::V4 if address == network.broadcast() => Some("broadcast address"),
        Family::V6 if underlay.prefix() <= 126 && address == network.network() => Some("subnet-router anycast address"),
        Family::V4 | Family::V6 => None,
    }
}

#[cfg(test)]
pub(in crate::cluster) mod tests;
