//! The desired state: what a node's kernel should hold for a given membership.
//!
//! Owns the rules of design that say which objects a peer needs. Pure: the same input gives the same objects.

mod nexthop_ids;
mod node;
mod outside;
mod peer;
mod tunnel;
mod vxlan;

use std::{collections::BTreeSet, net::IpAddr};

pub use nexthop_ids::NexthopIds;
pub use node::{node, pod};
pub use peer::{keys as peer_keys, peer};
pub use tunnel::pod_mtu;

use crate::{
    kernel::{Key, Objects, Value},
    masquerade::Unmasqueraded,
    membership::{Member, Prefixes},
    settings::Settings,
    types::{LinkName, Mac, PerFamily, UnderlayAddress},
};

/// What this node knows of itself, beside its own entry in the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Name of the VXLAN device.
    pub device: LinkName,
    /// The link that carries outer packets.
    pub underlay: Underlay,
    /// The largest packet in bytes that the network between the nodes carries, where the operator said so at this node.
    pub mtu_limit: Option<u32>,
    /// Where this node's pods go under their own addresses.
    pub unmasqueraded: Unmasqueraded,
}

impl Local {
    /// The largest packet in bytes that this node sends to another, as far as it knows itself.
    pub fn mtu(&self) -> u32 {
        self.mtu_limit.map_or(self.underlay.mtu, |limit| limit.min(self.underlay.mtu))
    }
}

/// The link towards the other nodes, as the kernel has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Its name.
    pub link: LinkName,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: PerFamily<Option<UnderlayAddress>>,
    /// Routers that are reached by it.
    pub gateways: BTreeSet<IpAddr>,
    /// True while the link has a carrier.
    pub has_carrier: bool,
    /// Links of the host, this one or others, whose IPv6 configuration may come from router advertisements, so that
    /// forwarding needs accept_ra=2 there.
    pub advertised_links: BTreeSet<LinkName>,
}

/// The host's side of one attached pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The host's end of the veth pair.
    pub link: LinkName,
    /// MAC of the pod's end.
    pub mac: Mac,
    /// The pod's addresses.
    pub addresses: PerFamily<Option<IpAddr>>,
}

/// The whole desired state. `peers` may hold the node itself, which is skipped. Ids that no nexthop
/// of it needs are given back.
pub fn all<'a>(
    settings: &Settings,
    me: &Member,
    local: &Local,
    peers: impl IntoIterator<Item = &'a Member>,
    pods: &[Pod],
    ids: &mut NexthopIds,
) -> Objects {
    // Made into a map at once: nodes of a tree that grows by single insertions are half empty, and here are all peers' objects.
    let mut all: Vec<(Key, Value)> = Vec::new();
    for attached in pods {
        all.extend(pod(settings, me, local, attached));
    }
    let mut prefixes = Prefixes::of([me]);
    for member in peers.into_iter().filter(|member| member.name != me.name) {
        prefixes.add(member);
        all.extend(peer(settings, me, local, member, ids));
    }
    // What is the node's own stays the node's, whoever claimed the same: of two with one key the last counts.
    all.extend(node(settings, me, local, &prefixes));
    let objects = Objects::from_iter(all);
    ids.keep_used(&objects);
    objects
}

/// What a change of some peers concerns: every key that one of them owned or owns, and the desired objects among them.
/// Ids that none of these needs any more are given back. Not for a change of the node itself or of the settings: those
/// concern everything. What is needed for an address that `is_of_a_peer` stays as it is, whoever gave that address up.
pub fn changed(
    settings: &Settings,
    me: &Member,
    local: &Local,
    old: &[&Member],
    new: &[&Member],
    is_of_a_peer: impl Fn(IpAddr) -> bool,
    ids: &mut NexthopIds,
) -> (BTreeSet<Key>, Objects) {
    let mut keys: BTreeSet<Key> = old.iter().flat_map(|member| peer::keys(settings, local, member, ids)).collect();
    let mut objects = Objects::new();
    for member in new {
        objects.extend(peer(settings, me, local, member, ids));
        keys.extend(peer::keys(settings, local, member, ids));
    }
    // What is the node's own stays the node's, whoever claimed the same.
    let own = node(settings, me, local, &Prefixes::of([me]));
    let is_shared = |key: &Key| peer::address_needing(key).is_some_and(&is_of_a_peer) && !objects.contains_key(key);
    keys.retain(|key| !own.contains_key(key) && !is_shared(key));
    objects.retain(|key, _| !own.contains_key(key));
    tunnel::release(settings, old.iter().chain(new).copied(), &objects, ids);
    (keys, objects)
}
