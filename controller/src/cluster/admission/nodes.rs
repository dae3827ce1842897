//! Membership by Node objects.
//!
//! Owns what the objects say and the store does not: each Node's addresses, who gives pod CIDRs, and what is wrong with a Node. Must
//! never forget a departed node before its pod CIDRs are free: until then its object shows what is waited for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use weft_core::{
    standing::Facts,
    types::{Family, NodeName, PerFamily, PodCidr, UnderlayAddress},
};

use super::evidence::Evidence;
use crate::{
    cluster::{NodeSeen, Refusal},
    config::NodeCidrs,
};

/// What is known of them.
#[derive(Debug)]
pub(in crate::cluster) struct Nodes {
    /// Who gives pod CIDRs, as it is configured.
    cidrs: NodeCidrs,
    /// Without an address of this family a node has no tunnel.
    outer: Family,
    /// Who gives them, where the configuration leaves it open and it was found out.
    decided: Option<NodeCidrs>,
    /// What says so.
    evidence: Evidence,
    addresses: HashMap<NodeName, Vec<IpAddr>>,
    /// What keeps Nodes from having pod CIDRs.
    problems: BTreeMap<NodeName, Refusal>,
    /// Names whose ended life the store remembers only until everybody has let its pod CIDRs go.
    departing: BTreeSet<NodeName>,
}

impl Nodes {
    pub(super) fn new(cidrs: NodeCidrs, outer: Family) -> Self {
        Self {
            cidrs,
            outer,
            decided: None,
            evidence: Evidence::default(),
            addresses: HashMap::new(),
            problems: BTreeMap::new(),
            departing: BTreeSet::new(),
        }
    }

    pub(super) const fn cidrs(&self) -> NodeCidrs {
        self.cidrs
    }

    /// Who departs is the store's to say.
    pub(super) fn go_on_from(&mut self, before: Self) {
        let departing = std::mem::take(&mut self.departing);
        *self = Self { departing, ..before };
    }

    /// A family of which the Node lists no address is left out, unless outer packets are to be of it; an address that is not listed
    /// beside others of its family is refused.
    pub(super) fn check_address(
        &self,
        name: &NodeName,
        facts: &Facts,
        registered: Option<PerFamily<Option<UnderlayAddress>>>,
    ) -> Result<Facts, Refusal> {
        let mut facts = facts.clone();
        let Some(listed) = self.addresses.get(name).filter(|listed| !listed.is_empty()) else {
            // Just after a change of leader the Nodes may not have been looked at yet; what is known already may stay.
            let is_known = registered == Some(facts.underlay);
            return if is_known { Ok(facts) } else { Err(Refusal::NodeUnseen { node: name.clone() }) };
        };
        for family in Family::ALL {
            let reported = facts.underlay.get_mut(family);
            let Some(address) = reported.map(|reported| reported.address()) else { continue };
            if listed.contains(&address) {
                continue;
            }
            if self.outer == family || lists_family_of(listed, address) {
                return Err(not_listed(name, address, listed));
            }
            *reported = None;
        }
        Ok(facts)
    }

    pub(super) fn strayed(&self, name: &NodeName, mut registered: impl Iterator<Item = IpAddr>) -> Option<Refusal> {
        let listed = self.addresses.get(name)?;
        let address = registered.find(|address| lists_family_of(listed, *address) && !listed.contains(address))?;
        Some(not_listed(name, address, listed))
    }

    pub(super) fn note_all(&mut self, seen: &[NodeSeen], pools: &[PodCidr]) -> bool {
        seen.iter().for_each(|seen| self.evidence.note(seen, pools));
        self.decide()
    }

    pub(super) fn settled(&mut self, seen: &NodeSeen, problem: Option<Refusal>) {
        self.addresses.insert(seen.name.clone(), seen.addresses.clone());
        match problem {
            None => drop(self.problems.remove(&seen.name)),
            Some(problem) => drop(self.problems.insert(seen.name.clone(), problem)),
        }
    }

    pub(super) fn forget(&mut self, name: &NodeName) {
        self.addresses.remove(name);
        self.problems.remove(name);
        self.evidence.forget(name);
    }

    pub(super) fn decide(&mut self) -> bool {
        if self.cidrs != NodeCidrs::Auto {
            return false;
        }
        let decided = self.evidence.allocator();
        let is_news = std::mem::replace(&mut self.decided, decided) != decided;
        if is_news {
            self.tell_decision();
        }
        is_news
    }

    fn tell_decision(&self) {
        match (self.decided, self.evidence.outside()) {
            (Some(NodeCidrs::Weft), _) => tracing::info!("Weft allocates the Nodes' pod CIDRs"),
            (None, Some((node, cidr))) => tracing::warn!(
                %node, %cidr,
                "every Node that has a pod CIDR has one from outside the pools: nobody allocates until the pools cover them, or option nodeCidrs says who does"
            ),
            _ => tracing::info!(
                "Nodes have pod CIDRs that Weft did not give, so kube-controller-manager allocates them: Weft keeps to what it finds (option nodeCidrs says otherwise)"
            ),
        }
    }

    pub(super) fn allocates(&self) -> Option<NodeCidrs> {
        match self.cidrs {
            NodeCidrs::Auto => self.decided,
            configured => Some(configured),
        }
    }

    pub(super) fn misleading(&self) -> Option<(&NodeName, PodCidr)> {
        self.evidence.outside().filter(|_| self.allocates().is_none())
    }

    pub(super) fn problem(&self, name: &NodeName) -> Option<&Refusal> {
        self.problems.get(name)
    }

    pub(super) fn departed(&mut self, name: &NodeName) {
        self.departing.insert(name.clone());
    }

    pub(super) fn returned(&mut self, name: &NodeName) {
        self.departing.remove(name);
    }

    pub(super) fn forget_departed<'a>(&mut self, waiting: impl FnOnce() -> HashSet<&'a NodeName>) -> Vec<NodeName> {
        if self.departing.is_empty() {
            return Vec::new();
        }
        let waiting = waiting();
        let (departing, forgotten) =
            std::mem::take(&mut self.departing).into_iter().partition(|name| waiting.contains(name));
        self.departing = departing;
        Vec::from_iter::<BTreeSet<NodeName>>(forgotten)
    }
}

fn lists_family_of(listed: &[IpAddr], address: IpAddr) -> bool {
    listed.iter().any(|known| Family::of(*known) == Family::of(address))
}

fn not_listed(name: &NodeName, address: IpAddr, listed: &[IpAddr]) -> Refusal {
    let known = listed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Refusal::AddressNotOfNode { node: name.clone(), address, known }
}
