//! The CIDRs that are taken: no two of them overlap, which makes the question of what is free one of two neighbours.

use std::collections::BTreeMap;

use crate::types::{NodeName, PodCidr, Revision};

/// How a CIDR is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// A node has it.
    Used { owner: NodeName },
    /// A node had it.
    Quarantined { owner: NodeName, revision: Revision },
}

impl State {
    /// Whose it is or was, and since when it is in quarantine.
    pub(super) fn parts(&self) -> (NodeName, Option<Revision>) {
        match self {
            Self::Used { owner } => (owner.clone(), None),
            Self::Quarantined { owner, revision } => (owner.clone(), Some(*revision)),
        }
    }
}

/// All that is taken, by address. `PodCidr` orders by family, then first address.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken(BTreeMap<PodCidr, State>);

impl Taken {
    pub(super) fn get(&self, cidr: &PodCidr) -> Option<&State> {
        self.0.get(cidr)
    }

    pub(super) fn insert(&mut self, cidr: PodCidr, state: State) {
        self.0.insert(cidr, state);
    }

    pub(super) fn remove(&mut self, cidr: &PodCidr) {
        self.0.remove(cidr);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PodCidr, &State)> {
        self.0.iter().map(|(cidr, state)| (*cidr, state))
    }

    /// One that shares an address with `cidr`: it either begins at or before it, or is the first to begin behind.
    pub(super) fn overlapping(&self, cidr: &PodCidr) -> Option<(PodCidr, &State)> {
        let before = self.0.range(..=cidr).next_back();
        let behind = self.0.range(cidr..).next();
        let mut near = before.into_iter().chain(behind);
        near.find(|(taken, _)| taken.overlaps(cidr)).map(|(taken, state)| (*taken, state))
    }

    /// All that begin in `cidr`, and the one that begins before and reaches into it.
    pub(super) fn within(&self, cidr: &PodCidr) -> impl Iterator<Item = (PodCidr, &State)> {
        let before = self.0.range(..cidr).next_back().filter(|(taken, _)| taken.overlaps(cidr));
        let behind = self.0.range(cidr..).take_while(|(taken, _)| taken.overlaps(cidr));
        before.into_iter().chain(behind).map(|(taken, state)| (*taken, state))
    }
}
