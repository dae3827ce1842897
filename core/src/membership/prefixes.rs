//! How many pod CIDRs of members have each prefix length.
//!
//! A node has a rule for each length, so it has to know when there is a new one. Owns only the count, made from members and
//! never from pools: another allocator may give out other lengths than the pools say. Must never decide who has a CIDR.

use std::collections::BTreeMap;

use super::Member;
use crate::types::Family;

/// Prefix lengths with the number of pod CIDRs that have them; none is kept at zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes(BTreeMap<(Family, u8), usize>);

impl Prefixes {
    /// Of all these members.
    pub fn of<'a>(members: impl IntoIterator<Item = &'a Member>) -> Self {
        let mut prefixes = Self::default();
        members.into_iter().for_each(|member| prefixes.add(member));
        prefixes
    }

    /// The lengths, IPv4 first, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Family, u8)> {
        self.0.keys().copied()
    }

    /// A member that is there from now on.
    pub(crate) fn add(&mut self, member: &Member) {
        for cidr in member.pod_cidrs.iter() {
            *self.0.entry((cidr.family(), cidr.prefix())).or_default() += 1;
        }
    }

    /// A member as it is no longer.
    pub(super) fn subtract(&mut self, member: &Member) {
        for length in member.pod_cidrs.iter().map(|cidr| (cidr.family(), cidr.prefix())) {
            let Some(count) = self.0.get_mut(&length) else { continue };
            *count -= 1;
            if *count == 0 {
                self.0.remove(&length);
            }
        }
    }
}

impl FromIterator<(Family, u8)> for Prefixes {
    fn from_iter<T: IntoIterator<Item = (Family, u8)>>(lengths: T) -> Self {
        Self(lengths.into_iter().map(|length| (length, 1)).collect())
    }
}
