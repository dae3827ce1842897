//! A node's kernel as a map of what is ours in it.
//!
//! Owns what agents programmed; it outlives them. It takes every operation of the real diff, in its order.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use weft_core::{
    diff::{Op, diff},
    kernel::{Key, Objects, Observed, Seen, SeenObjects, UNREACHABLE_METRIC},
    types::{LinkName, PodCidr},
};

use super::{Checked, hold, pairs};

/// The kernel.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    observed: Observed,
}

impl Kernel {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) const fn objects(&self) -> &SeenObjects {
        &self.observed.ours
    }

    /// True where packets to this CIDR go somewhere or stay here.
    pub(super) fn holds(&self, cidr: &PodCidr) -> bool {
        self.routes().any(|(to, _)| to == cidr.network())
    }

    /// The node's own CIDRs: those that pools are cut into, and that packets from elsewhere never leave again.
    pub(super) fn own(&self, pools: &BTreeSet<IpNetwork>) -> BTreeSet<IpNetwork> {
        self.routes()
            .filter(|(to, metric)| *metric == UNREACHABLE_METRIC && !pools.contains(to))
            .map(|(to, _)| to)
            .collect()
    }

    /// Pairs of outer and inner source that it takes.
    pub(super) fn bound(&self) -> impl Iterator<Item = (IpAddr, IpNetwork)> {
        pairs::bound(self.observed.ours.keys())
    }

    fn routes(&self) -> impl Iterator<Item = (IpNetwork, u32)> {
        self.observed.ours.keys().filter_map(|key| match key {
            Key::Route(to, metric) => Some((*to, *metric)),
            _ => None,
        })
    }

    /// A full look: everything is put right, and read again. `stays` names the routes that nothing may delete.
    pub(super) fn converge(
        &mut self,
        before: &Objects,
        desired: &Objects,
        device: LinkName,
        stays: impl Fn(&IpNetwork) -> bool,
    ) -> Checked {
        let held = |key: &Key| before.contains_key(key);
        let plan = diff(&self.observed, desired, &held, device);
        for op in plan.ops {
            if let Op::Delete { key: Key::Route(to, metric), .. } = &op {
                hold!(
                    *metric == UNREACHABLE_METRIC || !stays(to),
                    "the route to {to} is deleted while it is a member's"
                );
            }
            self.carry_out(op, device);
        }
        let second = diff(&self.observed, desired, &held, device);
        hold!(second.is_empty(), "the second diff is not empty: {second:?}");
        Ok(())
    }

    fn carry_out(&mut self, op: Op, device: LinkName) {
        let ours = &mut self.observed.ours;
        match op {
            Op::Put { key, value, .. } => drop(ours.insert(key, Seen::As(value))),
            Op::Delete { key: Key::Device, .. } => ours.retain(|key, seen| !key.goes_with_device(seen.value(), device)),
            Op::Delete { key, .. } => drop(ours.remove(&key)),
        }
    }
}
