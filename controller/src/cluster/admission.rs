//! How nodes become members.
//!
//! Owns all in which the two ways differ: with [join tokens](AdmissionRule::Tokens) a node is made by whoever has one, and what it says
//! of itself is weighed; with [Node objects](Nodes) it is there as long as its object is, and its addresses are those listed there. The
//! rest of the cluster asks, and never which of the two it is. Must never change what the store holds.

mod evidence;
mod nodes;

use std::{collections::HashSet, net::IpAddr};

use weft_core::{
    standing::Facts,
    types::{Family, NodeName, PerFamily, PodCidr, UnderlayAddress},
};

use self::nodes::Nodes;
use super::{NodeSeen, Refusal};
use crate::config::NodeCidrs;

/// Which way, as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmissionRule {
    /// They join with a token, and their pod CIDRs come from the pools.
    Tokens,
    /// They have a Node object, whose pod CIDRs come from whom this says.
    Nodes(NodeCidrs),
}

impl AdmissionRule {
    /// What the certificate of a node that is no member is refused with.
    pub(super) const fn stranger(self, node: NodeName) -> Refusal {
        match self {
            Self::Tokens => Refusal::UnknownNode { node },
            // Its object may come yet.
            Self::Nodes(_) => Refusal::NodeUnseen { node },
        }
    }
}

/// The way that is followed, with what it knows: gone with the process, and soon told again.
#[derive(Debug)]
pub(super) enum Admission {
    /// By join tokens: all there is to know is in the store.
    Tokens,
    /// By Node objects.
    Nodes(Nodes),
}

impl Admission {
    /// Outer packets are of the family `outer`.
    pub(super) fn new(rule: AdmissionRule, outer: Family) -> Self {
        match rule {
            AdmissionRule::Tokens => Self::Tokens,
            AdmissionRule::Nodes(cidrs) => Self::Nodes(Nodes::new(cidrs, outer)),
        }
    }

    pub(super) const fn rule(&self) -> AdmissionRule {
        match self {
            Self::Tokens => AdmissionRule::Tokens,
            Self::Nodes(nodes) => AdmissionRule::Nodes(nodes.cidrs()),
        }
    }

    /// The registry was built anew from the store, which does not say what `before` knew.
    pub(super) fn go_on_from(&mut self, before: Self) {
        if let (Self::Nodes(nodes), Self::Nodes(before)) = (self, before) {
            nodes.go_on_from(before);
        }
    }

    /// Refuses what is for operators' hands where nodes come and go by themselves.
    pub(super) fn check_hand(&self, node: &NodeName) -> Result<(), Refusal> {
        match self {
            Self::Tokens => Ok(()),
            Self::Nodes(_) => Err(Refusal::NodesOfKubernetes { node: node.clone() }),
        }
    }

    /// True where a record that contradicts others is trimmed, and false where it keeps the cluster from starting: there an operator
    /// has changed the pools and can change them back, and here one bad object of many must not stop all.
    pub(super) const fn trims_records(&self) -> bool {
        matches!(self, Self::Nodes(_))
    }

    /// True where a new term gives every node the pod CIDRs that it lacks, and ended lives are forgotten by their age; where nodes come
    /// and go by themselves their objects say when.
    pub(super) const fn completes_records(&self) -> bool {
        matches!(self, Self::Tokens)
    }

    /// True where somebody else vouches for the addresses that a node reports, so that its word need not be weighed.
    pub(super) const fn vouches_for_addresses(&self) -> bool {
        matches!(self, Self::Nodes(_))
    }

    /// What of the facts counts that a node reports, which has registered the addresses `registered`.
    pub(super) fn check_address(
        &self,
        name: &NodeName,
        facts: &Facts,
        registered: Option<PerFamily<Option<UnderlayAddress>>>,
    ) -> Result<Facts, Refusal> {
        match self {
            Self::Tokens => Ok(facts.clone()),
            Self::Nodes(nodes) => nodes.check_address(name, facts, registered),
        }
    }

    /// An address that the node has registered and that is not listed any more. It counts until the agent reports another: what works is
    /// not ended on hearsay.
    pub(super) fn strayed(&self, name: &NodeName, registered: impl Iterator<Item = IpAddr>) -> Option<Refusal> {
        match self {
            Self::Tokens => None,
            Self::Nodes(nodes) => nodes.strayed(name, registered),
        }
    }

    /// A Node object is like this now. True where that decides anew who gives pod CIDRs.
    pub(super) fn note_all(&mut self, seen: &[NodeSeen], pools: &[PodCidr]) -> bool {
        match self {
            Self::Tokens => false,
            Self::Nodes(nodes) => nodes.note_all(seen, pools),
        }
    }

    /// A Node was taken in, or not as it is.
    pub(super) fn settled(&mut self, seen: &NodeSeen, problem: Option<Refusal>) {
        if let Self::Nodes(nodes) = self {
            nodes.settled(seen, problem);
        }
    }

    /// A Node is gone.
    pub(super) fn forget(&mut self, name: &NodeName) {
        if let Self::Nodes(nodes) = self {
            nodes.forget(name);
        }
    }

    /// Decides who gives pod CIDRs, where the configuration leaves it open. True where that is another one than before.
    pub(super) fn decide(&mut self) -> bool {
        match self {
            Self::Tokens => false,
            Self::Nodes(nodes) => nodes.decide(),
        }
    }

    /// Who gives pod CIDRs to Nodes; none while that is open, and where there are none.
    pub(super) fn allocates(&self) -> Option<NodeCidrs> {
        match self {
            Self::Tokens => None,
            Self::Nodes(nodes) => nodes.allocates(),
        }
    }

    /// A Node whose pod CIDR is in no pool and not ours, while nobody gives any because of it.
    pub(super) fn misleading(&self) -> Option<(&NodeName, PodCidr)> {
        match self {
            Self::Tokens => None,
            Self::Nodes(nodes) => nodes.misleading(),
        }
    }

    /// What keeps a Node from having pod CIDRs, or those that its spec names.
    pub(super) fn problem(&self, name: &NodeName) -> Option<&Refusal> {
        match self {
            Self::Tokens => None,
            Self::Nodes(nodes) => nodes.problem(name),
        }
    }

    /// A membership has ended, and its pod CIDRs are in quarantine.
    pub(super) fn departed(&mut self, name: &NodeName) {
        if let Self::Nodes(nodes) = self {
            nodes.departed(name);
        }
    }

    /// The name has a new life.
    pub(super) fn returned(&mut self, name: &NodeName) {
        if let Self::Nodes(nodes) = self {
            nodes.returned(name);
        }
    }

    /// The names whose ended life need not be remembered any more: none of their pod CIDRs is among those that `waiting` tells.
    pub(super) fn forget_departed<'a>(&mut self, waiting: impl FnOnce() -> HashSet<&'a NodeName>) -> Vec<NodeName> {
        match self {
            Self::Tokens => Vec::new(),
            Self::Nodes(nodes) => nodes.forget_departed(waiting),
        }
    }
}
