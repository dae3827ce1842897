//! Forged sources: which inner source a kernel takes from which outer one.
//!
//! Owns the check. A member sends whatever packets it likes from its own address; a kernel that binds every pod CIDR to the
//! address of its member, and to no other, takes none of them for another member's.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use weft_core::{
    kernel::{Key, Objects, Value},
    types::NodeName,
};

use super::{Checked, Planted, hold, world::World};

impl World {
    /// An agent whose kernel was just put right binds what the leader said at that revision.
    pub(super) fn check_pairs(&mut self, number: usize) -> Checked {
        let agent = &self.agents[number];
        let Some(process) = &agent.process else { return Ok(()) };
        let Some(content) = self.past.at(process.view.revision()) else { return Ok(()) };
        let peers = content.members.iter().filter(|member| member.name != agent.name);
        let pairs = peers.flat_map(|peer| {
            let outer = peer.underlay.v4.map(|underlay| underlay.address());
            peer.pod_cidrs.iter().filter_map(move |cidr| Some((outer?, cidr.network())))
        });
        // Without a device nothing comes out of the tunnel.
        let has_device = agent.kernel.objects().contains_key(&Key::Device);
        let due: BTreeSet<(IpAddr, IpNetwork)> = pairs.filter(|_| has_device).collect();
        let bound: BTreeSet<(IpAddr, IpNetwork)> = agent.kernel.bound().collect();
        hold!(
            bound == due,
            "{} at {} takes inner sources {bound:?}, and due are {due:?}",
            agent.name,
            process.view.revision()
        );
        self.counts.bound += u64::from(!bound.is_empty());
        Ok(())
    }

    /// The planted bugs: any pod CIDR from any member, or one that is missing.
    pub(super) fn spoil_pairs(planted: Planted, desired: &mut Objects) {
        let pairs: Vec<(IpAddr, IpNetwork)> = bound(desired.keys()).collect();
        match (planted, pairs.first()) {
            (Planted::AnyInnerSource, Some((outer, _))) => {
                desired.extend(pairs.iter().map(|(_, inner)| (Key::Bound(*outer, *inner), Value::Present)));
            }
            (Planted::MissingInnerSource, Some((outer, inner))) => drop(desired.remove(&Key::Bound(*outer, *inner))),
            _ => {}
        }
    }

    /// What a kernel lacks of the others' addresses: the forwarding entry and the pairs.
    pub(super) fn lacks_address(&self, number: usize, name: &NodeName) -> bool {
        let content = self.agents[number].process.as_ref().and_then(|process| self.past.at(process.view.revision()));
        let peer = content.and_then(|content| content.members.iter().find(|member| member.name == *name));
        let Some((peer, outer)) = peer.and_then(|peer| Some((peer, peer.underlay.v4?.address()))) else { return true };
        let objects = self.agents[number].kernel.objects();
        let leads_there = objects.get(&Key::Fdb(peer.endpoint.mac())).is_some_and(|seen| seen.is(&Value::Fdb(outer)));
        let takes_its_own = peer.pod_cidrs.iter().all(|cidr| objects.contains_key(&Key::Bound(outer, cidr.network())));
        !(leads_there && takes_its_own)
    }
}

/// Pairs of outer and inner source.
pub(super) fn bound<'a>(keys: impl Iterator<Item = &'a Key>) -> impl Iterator<Item = (IpAddr, IpNetwork)> {
    keys.filter_map(|key| match key {
        Key::Bound(outer, inner) => Some((*outer, *inner)),
        _ => None,
    })
}
