//! Who owns a pod CIDR while two members claim it.
//!
//! That happens where another allocator gave the CIDR of a departed node to a new one and the departure is told late.
//! The newest claim wins, and the late departure takes nothing from the winner. Owns only that order; must never
//! change a claim's age because something else of the member changed.

use std::{collections::BTreeMap, sync::Arc};

use super::Member;
use crate::types::{NodeName, PodCidr};

/// The owner of each claimed CIDR, and the claimants that lost.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    owners: BTreeMap<PodCidr, NodeName>,
    /// Claims without effect, oldest first; nearly always empty.
    waiting: Vec<(PodCidr, NodeName)>,
}

impl Claims {
    /// The newest claim of a CIDR: it wins.
    pub(super) fn claim(&mut self, cidr: PodCidr, name: &NodeName) {
        self.waiting.retain(|waiting| *waiting != (cidr, name.clone()));
        match self.owners.insert(cidr, name.clone()) {
            Some(loser) if loser != *name => self.waiting.push((cidr, loser)),
            _ => {}
        }
    }

    /// Gives a claim up; the newest of those that lost takes its place.
    pub(super) fn release(&mut self, cidr: PodCidr, name: &NodeName) {
        if self.owners.get(&cidr) != Some(name) {
            self.waiting.retain(|waiting| *waiting != (cidr, name.clone()));
            return;
        }
        match self.waiting.iter().rposition(|(waiting, _)| *waiting == cidr) {
            Some(at) => {
                let (_, next) = self.waiting.remove(at);
                self.owners.insert(cidr, next);
            }
            None => {
                self.owners.remove(&cidr);
            }
        }
    }

    /// All who claim a CIDR.
    pub(super) fn claimants(&self, cidr: PodCidr) -> impl Iterator<Item = &NodeName> {
        let waiting = self.waiting.iter().filter(move |(waiting, _)| *waiting == cidr).map(|(_, name)| name);
        self.owners.get(&cidr).into_iter().chain(waiting)
    }

    /// How old a claim is among those of its CIDR: the owner's is the newest, a claim that does not exist is newer still.
    pub(super) fn age(&self, cidr: PodCidr, name: &NodeName) -> usize {
        if self.owners.get(&cidr) == Some(name) {
            return self.waiting.len();
        }
        let waiting = self.waiting.iter().position(|(waiting, claimant)| *waiting == cidr && claimant == name);
        waiting.unwrap_or(usize::MAX)
    }

    /// The member as it counts: without the CIDRs that a newer claim has.
    pub(super) fn effective(&self, member: &Arc<Member>) -> Arc<Member> {
        if !self.waiting.iter().any(|(_, name)| *name == member.name) {
            return Arc::clone(member);
        }
        let mut effective = Member::clone(member);
        for (lost, _) in self.waiting.iter().filter(|(_, name)| *name == member.name) {
            let cidr = effective.pod_cidrs.get_mut(lost.family());
            if *cidr == Some(*lost) {
                *cidr = None;
            }
        }
        Arc::new(effective)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_claim_wins_and_a_late_release_takes_nothing() {
        let cidr: PodCidr = "10.1.2.0/24".parse().expect("a CIDR");
        let name = |text: &str| text.parse::<NodeName>().expect("a name");
        let (old, new, newest) = (name("old"), name("new"), name("newest"));
        let owner = |claims: &Claims| claims.owners.get(&cidr).cloned();
        let mut claims = Claims::default();
        claims.claim(cidr, &old);
        claims.claim(cidr, &new);
        claims.claim(cidr, &newest);
        assert_eq!(owner(&claims), Some(newest.clone()));
        claims.release(cidr, &old);
        assert_eq!(owner(&claims), Some(newest.clone()));
        claims.release(cidr, &newest);
        assert_eq!(owner(&claims), Some(new.clone()));
        claims.release(cidr, &new);
        assert_eq!(owner(&claims), None);
        assert!(claims.waiting.is_empty());
    }
}
