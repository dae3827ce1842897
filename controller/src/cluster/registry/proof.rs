//! Which claims of underlay addresses are believed.
//!
//! Owns the rule, in one function, and what it weighs: the addresses that streams came from, the routers that members name, the
//! controller's own addresses, and the networks that the operator named. A site behind NAT or with several links changes the
//! weights, never the rule. All of it is of this term: the store knows only who has an address. Must never take a member's word
//! for an address that somebody proves, or that is no member's to claim.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use weft_core::{
    standing::Facts,
    types::{Family, NodeName, UnderlayAddress},
};

use super::{Registry, facts::node_addresses};
use crate::cluster::Refusal;

/// What is known of underlay addresses beside who has them.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Underlays {
    /// Where an address may lie that nobody proves; none: beside proven ones.
    pub(in crate::cluster) networks: Vec<IpNetwork>,
    /// Addresses that a stream came from since this controller leads, and whose it was.
    proven: HashMap<IpAddr, NodeName>,
    /// Those of the controller that members connect to.
    own: HashSet<IpAddr>,
    /// The routers that members name, for each member.
    gateways: HashMap<NodeName, Vec<IpAddr>>,
}

impl Underlays {
    /// A member connects to this address of the controller.
    pub(in crate::cluster) fn note_own(&mut self, address: IpAddr) {
        self.own.insert(address);
    }

    /// A member reported facts, which were accepted, on a stream from `source`.
    pub(in crate::cluster) fn note(&mut self, name: &NodeName, facts: &Facts, source: IpAddr) {
        let claimed: BTreeSet<IpAddr> = node_addresses(&facts.underlay).collect();
        // A stream from elsewhere takes back what an earlier one proved: whoever spoke from a neighbour's address for a while does
        // not keep the neighbour from it. Nothing is said of the other family, which no stream could come from at the same time.
        let is_elsewhere = |address: &IpAddr| Family::of(*address) == Family::of(source) && *address != source;
        self.proven.retain(|address, of| of != name || (claimed.contains(address) && !is_elsewhere(address)));
        for address in &claimed {
            // Whoever had it before, and proved it.
            if self.proven.get(address).is_some_and(|of| of != name) {
                self.proven.remove(address);
            }
        }
        if claimed.contains(&source) {
            self.proven.insert(source, name.clone());
        }
        if facts.gateways.is_empty() {
            self.gateways.remove(name);
        } else {
            self.gateways.insert(name.clone(), facts.gateways.clone());
        }
    }

    /// A membership has ended.
    pub(in crate::cluster) fn forget(&mut self, name: &NodeName) {
        self.proven.retain(|_, of| of != name);
        self.gateways.remove(name);
    }

    fn has_proof(&self, name: &NodeName, address: IpAddr) -> bool {
        self.proven.get(&address) == Some(name)
    }
}

/// What a stream says of an address that is reported on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// It comes from there.
    Itself,
    /// It comes from the node's address of the other family, which vouches for this one as long as nobody proves it.
    Vouched,
    Nothing,
}

/// A claim of an address that the claimant has not registered yet.
#[derive(Debug, Clone, Copy)]
struct Claim<'a> {
    proof: Proof,
    /// The member that has it.
    holder: Option<Holder<'a>>,
    is_own: bool,
    /// Who names it as a router of its prefix.
    gateway_of: Option<&'a NodeName>,
    /// It lies where members' addresses are.
    is_expected: bool,
}

#[derive(Debug, Clone, Copy)]
struct Holder<'a> {
    name: &'a NodeName,
    is_connected: bool,
    /// A stream of the holder came from the address.
    has_proof: bool,
    /// The holder has the address that the claimant's stream comes from as well.
    is_same_machine: bool,
}

/// What becomes of it.
#[derive(Debug, PartialEq, Eq)]
enum Verdict<'a> {
    /// The claimant gets it.
    Accepted,
    /// The holder is there, and keeps it.
    Taken(&'a NodeName),
    /// The holder is away, and keeps it.
    Held(&'a NodeName),
    /// The controller's host has it.
    OfController,
    /// A router has it, as this member says.
    OfGateway(&'a NodeName),
    /// Nothing speaks for it.
    Unproven,
}

/// The whole rule. Of two that prove an address the one that is connected keeps it: two machines have one address. What is
/// registered without proof, as after an upgrade, stays until somebody proves it.
const fn judge(claim: Claim<'_>) -> Verdict<'_> {
    let Claim { proof, holder, is_own, gateway_of, is_expected } = claim;
    match (proof, holder) {
        (Proof::Itself, Some(holder)) if holder.is_connected && holder.has_proof => Verdict::Taken(holder.name),
        (Proof::Itself, _) => Verdict::Accepted,
        (Proof::Vouched | Proof::Nothing, Some(holder)) if holder.is_connected => Verdict::Taken(holder.name),
        // Proof of one address of a machine that is away is proof of its other one.
        (Proof::Nothing, Some(holder)) => Verdict::Held(holder.name),
        (Proof::Vouched, Some(holder)) if !holder.is_same_machine => Verdict::Held(holder.name),
        (Proof::Vouched | Proof::Nothing, _) => match (is_own, gateway_of, proof) {
            (true, _, _) => Verdict::OfController,
            (false, Some(reporter), _) => Verdict::OfGateway(reporter),
            (false, None, Proof::Nothing) if !is_expected => Verdict::Unproven,
            (false, None, _) => Verdict::Accepted,
        },
    }
}

impl Registry {
    /// The member that loses an address to a claimant whose stream comes from `source`; none where it was free, or the
    /// claimant's own.
    pub(in crate::cluster) fn believe(
        &self,
        name: &NodeName,
        address: IpAddr,
        source: IpAddr,
        claimed: &BTreeSet<IpAddr>,
        is_connected: impl Fn(&NodeName) -> bool,
    ) -> Result<Option<NodeName>, Refusal> {
        let holder = self.addresses.get(&address);
        if holder == Some(name) {
            return Ok(None);
        }
        let proof = match () {
            () if source == address => Proof::Itself,
            () if claimed.contains(&source) => Proof::Vouched,
            () => Proof::Nothing,
        };
        let is_vouched = self.admission.vouches_for_addresses();
        let claim = Claim {
            proof,
            holder: holder.map(|holder| Holder {
                name: holder,
                is_connected: is_connected(holder),
                has_proof: self.underlays.has_proof(holder, address),
                is_same_machine: self.addresses.get(&source) == Some(holder),
            }),
            is_own: !is_vouched && self.underlays.own.contains(&address),
            gateway_of: (!is_vouched).then(|| self.gateway_of(address)).flatten(),
            is_expected: is_vouched || self.is_expected(address),
        };
        let node = name.clone();
        match judge(claim) {
            Verdict::Accepted => Ok(holder.cloned()),
            Verdict::Taken(holder) => Err(Refusal::AddressTaken { address, node, holder: holder.clone() }),
            Verdict::Held(holder) => Err(Refusal::AddressHeld { address, node, holder: holder.clone() }),
            Verdict::OfController => Err(Refusal::AddressOfController { address, node }),
            Verdict::OfGateway(by) => Err(Refusal::AddressOfGateway { address, node, reporter: by.clone() }),
            Verdict::Unproven => Err(Refusal::AddressUnproven { address, node, from: source, networks: self.named() }),
        }
    }

    /// A member that names the address as a router. Its word counts inside the prefix that it proved to be in, and against
    /// nobody who has registered or proves the address.
    fn gateway_of(&self, address: IpAddr) -> Option<&NodeName> {
        let names_it = |(_, gateways): &(&NodeName, &Vec<IpAddr>)| gateways.contains(&address);
        let named = self.underlays.gateways.iter().filter(names_it);
        named.map(|(reporter, _)| reporter).find(|reporter| self.proves_to_be_near(reporter, address))
    }

    fn is_expected(&self, address: IpAddr) -> bool {
        match self.underlays.networks.as_slice() {
            [] => self.underlays.proven.values().any(|name| self.proves_to_be_near(name, address)),
            networks => networks.iter().any(|network| network.contains(address)),
        }
    }

    /// True where a member proved an address that `address` is on one link with.
    fn proves_to_be_near(&self, name: &NodeName, address: IpAddr) -> bool {
        let is_near = |underlay: &UnderlayAddress| {
            underlay.network().contains(address) && self.underlays.has_proof(name, underlay.address())
        };
        self.nodes.get(name).is_some_and(|node| node.underlay().iter().any(is_near))
    }

    fn named(&self) -> String {
        self.underlays.networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests;
