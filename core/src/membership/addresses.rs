//! How many members announce each underlay address.
//!
//! Two do for a while if an address moves from one node to another and the agent hears of the winner first. Owns only the
//! count, so that what is needed for an address stays until nobody has it; must never decide whose an address is.

use std::{collections::BTreeMap, net::IpAddr};

use super::Member;

/// Addresses with the number of members that announce them; none is kept at zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(BTreeMap<IpAddr, usize>);

impl Addresses {
    /// Of all these members.
    pub(super) fn of<'a>(members: impl Iterator<Item = &'a Member>) -> Self {
        let mut addresses = Self::default();
        members.for_each(|member| addresses.add(member));
        addresses
    }

    /// A member that is there from now on.
    pub(super) fn add(&mut self, member: &Member) {
        for underlay in member.underlay.iter() {
            *self.0.entry(underlay.address()).or_default() += 1;
        }
    }

    /// A member as it is no longer.
    pub(super) fn subtract(&mut self, member: &Member) {
        for address in member.underlay.iter().map(|underlay| underlay.address()) {
            let Some(count) = self.0.get_mut(&address) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(&address);
            }
        }
    }

    /// How many members announce it.
    pub(super) fn count(&self, address: IpAddr) -> usize {
        self.0.get(&address).copied().unwrap_or_default()
    }
}
