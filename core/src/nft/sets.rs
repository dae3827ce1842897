//! The sets of the table: most are there always, those of pairs as members' pod CIDRs need them.
//!
//! Owns names and kinds of sets, and which of them belong to given chains. Must never hold an element.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{Chain, Expr};
use crate::types::Family;

/// A set of table `inet weft`. Elements are networks: the interval flag is on for pools, off for single addresses and pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetName {
    /// Underlay addresses of the current members: whom tunnel packets are taken from.
    Peers(Family),
    /// The pools, and what of the members' pod CIDRs lies in none: the overlay's addresses.
    Pools(Family),
    /// Networks outside the pools that pods' packets go to under the pods' own addresses.
    Unmasqueraded(Family),
    /// Underlay addresses of all members, which pods' packets never go to like that; empty where nothing is unmasqueraded.
    Nodes(Family),
    /// Which member's pods come from which underlay address.
    Bound(BoundSet),
}

/// Pairs of a member's underlay address and its pod CIDR. A hash set knows no ranges, so rules look up the network that an
/// address lies in, and each prefix length has a set and a rule of its own: a set for several would let a node with a short
/// prefix speak for its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundSet {
    /// Family of the underlay addresses.
    pub outer: Family,
    /// Family of the pod CIDRs.
    pub inner: Family,
    /// Prefix length of the pod CIDRs.
    pub prefix: u8,
}

impl SetName {
    /// The sets that are there always.
    pub const FIXED: [Self; 8] = [
        Self::Peers(Family::V4),
        Self::Peers(Family::V6),
        Self::Pools(Family::V4),
        Self::Pools(Family::V6),
        Self::Unmasqueraded(Family::V4),
        Self::Unmasqueraded(Family::V6),
        Self::Nodes(Family::V4),
        Self::Nodes(Family::V6),
    ];

    /// The set for a pair.
    pub fn bound(outer: IpAddr, inner: IpNetwork) -> Self {
        let (outer, family) = (Family::of(outer), Family::of(inner.ip()));
        Self::Bound(BoundSet { outer, inner: family, prefix: inner.prefix() })
    }

    /// The set of this name in nf_tables, if it is one of ours.
    pub fn find(name: &str) -> Option<Self> {
        let is_named = |set: &Self| set.to_string() == name;
        Self::FIXED.into_iter().find(is_named).or_else(|| BoundSet::read(name).map(Self::Bound).filter(is_named))
    }

    /// The family of its elements; of pairs, that of the underlay addresses.
    pub const fn family(self) -> Family {
        match self {
            Self::Peers(family) | Self::Pools(family) | Self::Unmasqueraded(family) | Self::Nodes(family) => family,
            Self::Bound(set) => set.outer,
        }
    }

    /// True where elements are ranges (`NFT_SET_INTERVAL`).
    pub const fn is_interval(self) -> bool {
        matches!(self, Self::Pools(_) | Self::Unmasqueraded(_))
    }
}

impl BoundSet {
    fn read(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("bound")?.split('_');
        let mut family =
            || parts.next().and_then(|part| Family::ALL.into_iter().find(|family| version(*family) == part));
        let (outer, inner) = (family()?, family()?);
        let prefix = parts.next()?.parse().ok().filter(|prefix| *prefix <= inner.bits())?;
        Some(Self { outer, inner, prefix })
    }
}

/// The sets that belong to these chains: those that are there always, and those of pairs that rules name.
pub fn sets<'a>(chains: impl IntoIterator<Item = &'a Chain>) -> BTreeSet<SetName> {
    let exprs = chains.into_iter().flat_map(|chain| &chain.rules).flatten();
    let bound = exprs.filter_map(|expr| if let Expr::Bound(set) = expr { Some(SetName::Bound(*set)) } else { None });
    SetName::FIXED.into_iter().chain(bound).collect()
}

const fn version(family: Family) -> &'static str {
    match family {
        Family::V4 => "4",
        Family::V6 => "6",
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peers(family) => write!(f, "peers{}", version(*family)),
            Self::Pools(family) => write!(f, "pools{}", version(*family)),
            Self::Unmasqueraded(family) => write!(f, "unmasqueraded{}", version(*family)),
            Self::Nodes(family) => write!(f, "nodes{}", version(*family)),
            Self::Bound(set) => set.fmt(f),
        }
    }
}

impl fmt::Display for BoundSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bound{}_{}_{}", version(self.outer), version(self.inner), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_nothing_else_is_ours() {
        let bound = |outer, inner, prefix| SetName::Bound(BoundSet { outer, inner, prefix });
        let pairs =
            [bound(Family::V4, Family::V4, 24), bound(Family::V4, Family::V6, 64), bound(Family::V6, Family::V4, 8)];
        for set in SetName::FIXED.into_iter().chain(pairs) {
            assert_eq!(SetName::find(&set.to_string()), Some(set));
        }
        for name in
            ["", "peers", "bound4_4", "bound4_4_33", "bound4_4_024", "bound4_4_24_", "bound4_5_24", "bound4_4_+24"]
        {
            assert_eq!(SetName::find(name), None, "{name}");
        }
    }
}
