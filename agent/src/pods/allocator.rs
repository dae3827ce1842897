//! Which address is next. Pure: no disk, no clock.
//!
//! Next-fit with a cool-down: addresses are handed out in ascending order, round and round, and one that was freed
//! waits until no other is free, the longest free first. So a connection or neighbour entry that outlives a pod does
//! not meet the next one at once.

use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
};

use weft_core::types::{Family, PerFamily, PodCidr};

/// How many freed addresses wait at most; older ones have waited enough.
const COOLING: usize = 4096;

/// No address is free.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pod CIDR {cidr} is exhausted: all {usable} usable addresses are held; delete pods of this node, or give nodes a \
     shorter prefix (the pool's node prefix length) and re-create the node"
)]
pub struct Exhausted {
    /// The CIDR.
    pub cidr: PodCidr,
    /// Addresses pods can have in it.
    pub usable: u128,
}

/// Who holds what is decided elsewhere; this knows which addresses are held, and which were freed in what order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Allocator {
    used: HashSet<IpAddr>,
    freed: VecDeque<IpAddr>,
    last: PerFamily<Option<IpAddr>>,
}

/// Addresses of `cidr` that pods can have: all but the first, which is the node's VTEP address, and for IPv4 the last,
/// which is the broadcast address.
pub fn usable(cidr: &PodCidr) -> u128 {
    let host_bits = u32::from(cidr.family().bits() - cidr.prefix());
    (1_u128 << host_bits) - if cidr.family() == Family::V4 { 2 } else { 1 }
}

impl Allocator {
    /// Takes one address of each CIDR, or none at all.
    pub(super) fn take(&mut self, cidrs: &PerFamily<Option<PodCidr>>) -> Result<PerFamily<Option<IpAddr>>, Exhausted> {
        let mut taken = PerFamily::default();
        for cidr in cidrs.iter() {
            *taken.get_mut(cidr.family()) = Some(self.next(cidr)?);
        }
        for address in taken.iter() {
            self.hold(*address);
        }
        Ok(taken)
    }

    /// Marks an address as held, and as the one last handed out.
    pub(super) fn hold(&mut self, address: IpAddr) {
        self.used.insert(address);
        self.freed.retain(|freed| *freed != address);
        *self.last.get_mut(Family::of(address)) = Some(address);
    }

    /// True where the address is held.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        self.used.contains(&address)
    }

    /// Frees an address: it cools down.
    pub(super) fn free(&mut self, address: IpAddr) {
        if self.used.remove(&address) {
            self.cool(address);
        }
    }

    /// Takes back a hold that never became true.
    pub(super) fn undo(&mut self, address: IpAddr) {
        self.used.remove(&address);
    }

    /// Adds an address to those that cool down, the latest last.
    pub(super) fn cool(&mut self, address: IpAddr) {
        if self.freed.len() == COOLING {
            self.freed.pop_front();
        }
        self.freed.push_back(address);
    }

    /// Remembers where to go on.
    pub(super) const fn set_last(&mut self, address: IpAddr) {
        *self.last.get_mut(Family::of(address)) = Some(address);
    }

    /// Addresses that cool down, the longest free first.
    pub(super) fn cooling(&self) -> impl Iterator<Item = IpAddr> {
        self.freed.iter().copied()
    }

    /// The address last handed out of each family.
    pub(super) const fn last(&self) -> &PerFamily<Option<IpAddr>> {
        &self.last
    }

    fn next(&self, cidr: &PodCidr) -> Result<IpAddr, Exhausted> {
        let usable = usable(cidr);
        // Of so many addresses in a row one is neither held nor cooling, unless the CIDR is smaller than that.
        let tries = usable.min((self.used.len() + self.freed.len()) as u128 + 1);
        let cooling: HashSet<&IpAddr> = self.freed.iter().collect();
        let start = self.last.get(cidr.family()).and_then(|last| offset(cidr, &last)).unwrap_or(0);
        (0..tries)
            .map(|step| 1 + (start + step) % usable)
            .filter_map(|offset| cidr.nth(offset))
            .find(|address| !self.used.contains(address) && !cooling.contains(address))
            .or_else(|| self.freed.iter().copied().find(|freed| is_usable(cidr, freed)))
            .ok_or(Exhausted { cidr: *cidr, usable })
    }
}

fn is_usable(cidr: &PodCidr, address: &IpAddr) -> bool {
    offset(cidr, address).is_some_and(|offset| (1..=usable(cidr)).contains(&offset))
}

/// Position of `address` in `cidr`, the first being 0.
fn offset(cidr: &PodCidr, address: &IpAddr) -> Option<u128> {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    cidr.contains(*address).then(|| number(*address) - number(cidr.vtep()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn v4(text: &str) -> PerFamily<Option<PodCidr>> {
        PerFamily { v4: Some(text.parse().expect(text)), v6: None }
    }

    fn take(allocator: &mut Allocator, cidrs: &PerFamily<Option<PodCidr>>) -> IpAddr {
        allocator.take(cidrs).expect("free").v4.expect("IPv4")
    }

    #[test]
    fn reserves_the_vtep_address_and_the_broadcast_address() {
        let (mut allocator, cidrs) = (Allocator::default(), v4("10.1.0.0/29"));
        let all: Vec<_> = (0..6).map(|_| take(&mut allocator, &cidrs).to_string()).collect();
        assert_eq!(all, ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]);
        let error = allocator.take(&cidrs).expect_err("exhausted").to_string();
        assert!(error.contains("10.1.0.0/29") && error.contains("all 6 usable") && error.contains("prefix"), "{error}");
    }

    #[test]
    fn the_longest_free_comes_first_and_the_one_just_freed_last() {
        let (mut allocator, cidrs) = (Allocator::default(), v4("10.1.0.0/29"));
        let all: Vec<_> = (0..6).map(|_| take(&mut allocator, &cidrs)).collect();
        // The cursor stands before the first address: without a cool-down the next would be exactly the one just freed.
        allocator.free(all[3]);
        allocator.free(all[0]);
        assert_eq!(take(&mut allocator, &cidrs), all[3]);
        assert_eq!(take(&mut allocator, &cidrs), all[0]);
    }

    #[test]
    fn both_families_or_none() {
        let mut allocator = Allocator::default();
        let mut cidrs = v4("10.1.0.0/30");
        cidrs.v6 = Some("fd00::/64".parse().expect("a CIDR"));
        assert_eq!(allocator.take(&cidrs).expect("free").v6, Some("fd00::1".parse().expect("an address")));
        allocator.take(&cidrs).expect("the second of two");
        let before = allocator.clone();
        allocator.take(&cidrs).expect_err("IPv4 is exhausted");
        assert_eq!(allocator, before, "an IPv6 address was lost");
    }

    proptest! {
        #[test]
        fn never_doubles_never_leaves_the_cidr(
            prefix in 24_u8..=30,
            script in prop::collection::vec(any::<u16>(), 0..600),
        ) {
            let cidr: PodCidr = format!("10.1.0.0/{prefix}").parse().expect("a CIDR");
            let cidrs = PerFamily { v4: Some(cidr), v6: None };
            let (mut allocator, mut held) = (Allocator::default(), BTreeSet::new());
            for step in script {
                if step % 3 == 0 && !held.is_empty() {
                    let address = *held.iter().nth(usize::from(step) % held.len()).expect("in range");
                    held.remove(&address);
                    allocator.free(address);
                } else {
                    match allocator.take(&cidrs) {
                        Ok(taken) => {
                            let address = taken.v4.expect("IPv4");
                            prop_assert!(is_usable(&cidr, &address));
                            prop_assert!(held.insert(address), "{} twice", address);
                        }
                        Err(_) => prop_assert_eq!(held.len() as u128, usable(&cidr)),
                    }
                }
            }
        }
    }
}
