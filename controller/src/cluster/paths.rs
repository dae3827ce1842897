//! How many nodes reach a node by which path.
//!
//! Owns the count over all members, by subnets instead of pairs: 5,000 nodes are 25 million pairs but few subnets. Must
//! agree with [`Member::path`] for every pair.

use std::collections::HashMap;

use ipnetwork::IpNetwork;
use weft_core::{
    membership::Member,
    settings::{Mode, Settings},
    types::{Family, NodeName},
};

/// How the others reach a member in one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) direct: u32,
    pub(crate) tunnel: u32,
    pub(crate) unreached: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    all: u32,
    with_outer: u32,
}

impl Count {
    const fn add(&mut self, other: Self) {
        self.all += other.all;
        self.with_outer += other.with_outer;
    }

    fn one(member: &Member, settings: &Settings) -> Self {
        Self { all: 1, with_outer: u32::from(member.underlay.get(settings.outer()).is_some()) }
    }
}

/// Counts one family for all members; those without an entry are reached by nobody directly.
pub(super) fn count<'a>(members: &[&'a Member], family: Family, settings: &Settings) -> HashMap<&'a NodeName, Reach> {
    let direct = if settings.mode == Mode::Always { HashMap::new() } else { direct(members, family, settings) };
    let mut total = Count::default();
    members.iter().for_each(|member| total.add(Count::one(member, settings)));
    let reach = |member: &&'a Member| {
        let me = Count::one(member, settings);
        let direct = direct.get(&member.name).copied().unwrap_or_default();
        let others = total.all - 1;
        let tunnelled = settings.mode != Mode::Never && me.with_outer == 1;
        let tunnel = if tunnelled { total.with_outer - 1 - direct.with_outer } else { 0 };
        (&member.name, Reach { direct: direct.all, tunnel, unreached: others - direct.all - tunnel })
    };
    members.iter().map(reach).collect()
}

/// Who shares a subnet with whom: both addresses lie in both on-link prefixes, so within one network everybody does,
/// and of a wider network those whose address lies in the narrower one.
fn direct<'a>(members: &[&'a Member], family: Family, settings: &Settings) -> HashMap<&'a NodeName, Count> {
    let mut subnets: HashMap<IpNetwork, Vec<&Member>> = HashMap::new();
    for member in members {
        if let Some(network) = member.underlay.get(family).and_then(|underlay| canonical(underlay.network())) {
            subnets.entry(network).or_default().push(member);
        }
    }
    let mut prefixes: Vec<u8> = subnets.keys().map(IpNetwork::prefix).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let mut direct: HashMap<&NodeName, Count> = HashMap::new();
    let sum = |members: &[&Member]| {
        let mut sum = Count::default();
        members.iter().for_each(|member| sum.add(Count::one(member, settings)));
        sum
    };
    for (network, inside) in &subnets {
        let together = sum(inside);
        for member in inside {
            let me = Count::one(member, settings);
            let others = Count { all: together.all - 1, with_outer: together.with_outer - me.with_outer };
            direct.entry(&member.name).or_default().add(others);
        }
        for wider in prefixes.iter().filter(|prefix| **prefix < network.prefix()) {
            let Some(outside) = widened(*network, *wider).and_then(|wide| subnets.get(&wide)) else { continue };
            let lies_in = |member: &&&Member| {
                member.underlay.get(family).is_some_and(|underlay| network.contains(underlay.address()))
            };
            let near: Vec<&Member> = outside.iter().filter(lies_in).copied().collect();
            let near_sum = sum(&near);
            near.iter().for_each(|member| direct.entry(&member.name).or_default().add(together));
            inside.iter().for_each(|member| direct.entry(&member.name).or_default().add(near_sum));
        }
    }
    direct
}

fn canonical(network: IpNetwork) -> Option<IpNetwork> {
    widened(network, network.prefix())
}

fn widened(network: IpNetwork, prefix: u8) -> Option<IpNetwork> {
    let wide = IpNetwork::new(network.ip(), prefix).ok()?;
    IpNetwork::new(wide.network(), prefix).ok()
}

#[cfg(test)]
mod tests;
