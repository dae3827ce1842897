//! Why a CIDR could not be had.

use super::{Pool, Usage};
use crate::types::{Family, NodeName, PodCidr, Revision};

/// Why no CIDR was handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocError {
    /// No pool of the family is configured.
    #[error("there is no {0} pool: add one to the controller's configuration")]
    NoPool(Family),
    /// There are pools, but none of them is for this node.
    #[error(
        "its labels match the selector of no pool ({}): label it, or add a pool without a selector",
        .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    NotServed(Vec<Pool>),
    /// Every CIDR of every pool of the family is taken.
    #[error(
        "no {family} pod CIDR is free in {}: add a pool, or delete nodes that are gone (weft node delete NODE)",
        list(.pools)
    )]
    Exhausted {
        /// The family.
        family: Family,
        /// Its pools.
        pools: Vec<Usage>,
    },
}

/// Why a CIDR that a node is said to have cannot be its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Another node has it, or a part of it.
    #[error(
        "pod CIDR {cidr} of node {owner} overlaps {held} of node {holder}: one of the two must be deleted and join again"
    )]
    Taken {
        /// Who claims.
        owner: NodeName,
        /// What is claimed.
        cidr: PodCidr,
        /// Who has it.
        holder: NodeName,
        /// What that node has.
        held: PodCidr,
    },
    /// It was a departed node's, and some agents may not have let it go.
    #[error(
        "pod CIDR {cidr} of node {owner} overlaps {held} of node {holder}, which departed at revision {revision} and is not forgotten by every agent yet: try again once all have acknowledged"
    )]
    Quarantined {
        /// Who claims.
        owner: NodeName,
        /// What is claimed.
        cidr: PodCidr,
        /// Who had it.
        holder: NodeName,
        /// What that node had.
        held: PodCidr,
        /// When that node departed.
        revision: Revision,
    },
    /// A node has one CIDR of each family at most.
    #[error("node {owner} cannot have pod CIDR {cidr}, as it has {held} already: release that one first")]
    Another {
        /// Who claims.
        owner: NodeName,
        /// What is claimed.
        cidr: PodCidr,
        /// What it has.
        held: PodCidr,
    },
}

fn list(pools: &[Usage]) -> String {
    let describe = |usage: &Usage| {
        let Usage { pool, used, quarantined, total } = usage;
        format!("pool {pool} ({used} of {total} in use, {quarantined} in quarantine)")
    };
    pools.iter().map(describe).collect::<Vec<_>>().join(", ")
}
