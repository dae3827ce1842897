//! Which nexthop object stands for which gateway.
//!
//! Owns the assignment; it is learnt from the kernel at start, so that a restart changes no route. Ids are handed out
//! in a circle, so that an id just given up is not soon another peer's while routes may still refer to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::kernel::{Key, NEXTHOP_IDS, Objects, Seen, SeenObjects, Value};

/// Nexthop ids by gateway address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NexthopIds {
    ids: BTreeMap<IpAddr, u32>,
    taken: BTreeSet<u32>,
    next: u32,
}

impl Default for NexthopIds {
    fn default() -> Self {
        Self { ids: BTreeMap::new(), taken: BTreeSet::new(), next: *NEXTHOP_IDS.start() }
    }
}

impl NexthopIds {
    /// No assignments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns assignments from a reading of the kernel. Those made before stay; of two objects for one gateway the lower
    /// id counts, and the other is nobody's.
    pub fn adopt(&mut self, observed: &SeenObjects) {
        for (key, seen) in observed {
            if let (Key::Nexthop(id), Seen::As(Value::Nexthop(gateway))) = (key, seen)
                && NEXTHOP_IDS.contains(id)
                && !self.ids.contains_key(gateway)
                && self.taken.insert(*id)
            {
                self.ids.insert(*gateway, *id);
                self.next = self.next.max(after(*id));
            }
        }
    }

    /// Keeps away from ids that somebody else's objects have; gateways that had one of them get another when next asked.
    pub fn avoid(&mut self, foreign: &BTreeSet<Key>) {
        let ids = foreign.iter().filter_map(|key| match key {
            Key::Nexthop(id) => Some(*id),
            _ => None,
        });
        for id in ids {
            self.ids.retain(|_, taken| *taken != id);
            self.taken.insert(id);
        }
    }

    /// The id of a gateway; a new one where it has none, or none where all 131,072 are taken.
    pub fn id(&mut self, gateway: IpAddr) -> Option<u32> {
        if let Some(id) = self.ids.get(&gateway) {
            return Some(*id);
        }
        let id = self.free()?;
        self.taken.insert(id);
        self.ids.insert(gateway, id);
        self.next = after(id);
        Some(id)
    }

    /// The id of a gateway, if it has one.
    pub fn get(&self, gateway: IpAddr) -> Option<u32> {
        self.ids.get(&gateway).copied()
    }

    /// Gives a gateway's id back.
    pub fn release(&mut self, gateway: IpAddr) {
        if let Some(id) = self.ids.remove(&gateway) {
            self.taken.remove(&id);
        }
    }

    /// Gives the ids back that a whole desired state does not use.
    pub(super) fn keep_used(&mut self, desired: &Objects) {
        let taken = &mut self.taken;
        self.ids.retain(|_, id| {
            let used = desired.contains_key(&Key::Nexthop(*id));
            if !used {
                taken.remove(id);
            }
            used
        });
    }

    /// The first free id from the last one handed out on, around the end of the range.
    fn free(&self) -> Option<u32> {
        let (first, last) = (*NEXTHOP_IDS.start(), *NEXTHOP_IDS.end());
        first_gap(&self.taken, self.next, last).or_else(|| first_gap(&self.taken, first, last))
    }
}

fn first_gap(taken: &BTreeSet<u32>, first: u32, last: u32) -> Option<u32> {
    let mut candidate = first;
    for &id in taken.range(first..=last) {
        if id != candidate {
            break;
        }
        candidate += 1;
    }
    (candidate <= last).then_some(candidate)
}

/// The id behind `id` in the circle.
const fn after(id: u32) -> u32 {
    if id >= *NEXTHOP_IDS.end() { *NEXTHOP_IDS.start() } else { id + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::seen;

    fn gateway(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn an_id_stays_and_is_not_handed_out_again_at_once() {
        let mut ids = NexthopIds::new();
        let (a, b) = (ids.id(gateway(1)), ids.id(gateway(2)));
        assert_ne!(a, b);
        assert_eq!(ids.id(gateway(1)), a);
        ids.release(gateway(2));
        assert_ne!(ids.id(gateway(3)), b, "the id just given up names another gateway");
        assert_eq!(ids.get(gateway(2)), None);
    }

    #[test]
    fn what_the_kernel_holds_is_kept_over_a_restart() {
        let mut before = NexthopIds::new();
        let objects: Objects = (1..=9)
            .map(|n| (Key::Nexthop(before.id(gateway(n)).expect("plenty")), Value::Nexthop(gateway(n))))
            .collect();
        let mut after = NexthopIds::new();
        after.adopt(&seen(objects.clone()));
        for n in (1..=9).rev() {
            assert_eq!(after.id(gateway(n)), before.id(gateway(n)));
        }
        // A later reading, in which somebody swapped two gateways: the assignment stays, and the objects are put right.
        let swapped =
            [(1, 2), (2, 1)].map(|(a, b)| (Key::Nexthop(before.ids[&gateway(a)]), Value::Nexthop(gateway(b))));
        after.adopt(&seen(swapped.into()));
        assert_eq!(after.ids, before.ids);
        let fresh = after.id(gateway(10)).expect("plenty");
        assert!(!objects.contains_key(&Key::Nexthop(fresh)));
    }

    #[test]
    fn an_id_that_a_foreign_object_has_is_left_to_it() {
        let mut ids = NexthopIds::new();
        let stolen = ids.id(gateway(1)).expect("plenty");
        ids.avoid(&BTreeSet::from([Key::Nexthop(stolen), Key::Device]));
        assert_ne!(ids.id(gateway(1)), Some(stolen));
        ids.release(gateway(1));
        assert_ne!(ids.id(gateway(2)), Some(stolen));
    }

    #[test]
    fn one_id_never_stands_for_two_gateways() {
        let mut ids = NexthopIds::new();
        let id = ids.id(gateway(1)).expect("plenty");
        ids.adopt(&seen([(Key::Nexthop(id), Value::Nexthop(gateway(2)))].into()));
        assert_ne!(ids.id(gateway(2)), Some(id));
    }

    #[test]
    fn ids_are_taken_around_the_end_until_none_is_left() {
        let mut ids = NexthopIds::new();
        let last = *NEXTHOP_IDS.end();
        ids.adopt(&seen([(Key::Nexthop(last), Value::Nexthop(gateway(1)))].into()));
        assert_eq!(ids.id(gateway(2)), Some(*NEXTHOP_IDS.start()));
        ids.taken = NEXTHOP_IDS.collect();
        assert_eq!(ids.id(gateway(3)), None);
        ids.release(gateway(1));
        assert_eq!(ids.id(gateway(3)), Some(last));
    }
}
