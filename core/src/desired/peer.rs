//! What a node needs for one peer.
//!
//! A packet to a pod of a peer across a router takes them in this order: the route to the peer's pod CIDR names a nexthop
//! object; the nexthop's gateway is the peer's VTEP address (IPv4) or a link-local one (IPv6) on the VXLAN device; the
//! gateway's permanent neighbour entry is the peer's VTEP MAC; the forwarding entry of that MAC is the peer's underlay
//! address. All but the route are the same for a peer in the same subnet, so that only the route ever switches.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{Local, NexthopIds, outside, tunnel};
use crate::{
    kernel::{Key, Objects, Route, Value, Via, metric},
    membership::{Member, Path},
    nft::SetName,
    settings::Settings,
    types::{Family, PodCidr},
};

/// The objects of one peer; none for the node itself.
pub fn peer(settings: &Settings, me: &Member, local: &Local, peer: &Member, ids: &mut NexthopIds) -> Objects {
    let mut objects = Objects::new();
    if peer.name == me.name {
        return objects;
    }
    objects.extend(outside::elements(&settings.pools, peer).map(|key| (key, Value::Present)));
    let addresses = node_addresses(peer, local);
    objects.extend(addresses.map(|(set, address)| (Key::Element(set, address), Value::Present)));
    let has_tunnel = forwarding(&mut objects, settings, me, local, peer);
    for family in Family::ALL {
        let Some(cidr) = *peer.pod_cidrs.get(family) else { continue };
        // Without an own CIDR of the family there is no address of ours inside the tunnel that a peer could answer.
        let nexthop = (has_tunnel && me.pod_cidrs.get(family).is_some())
            .then(|| nexthop(&mut objects, local, peer, cidr, ids))
            .flatten();
        let route = match me.path(peer, family, settings) {
            Path::Vxlan => nexthop.map(|id| through_tunnel(settings, me, local, peer, id)),
            Path::Direct => peer.underlay.get(family).map(|at| Route {
                via: Via::Gateway(at.address(), local.underlay.link),
                mtu: narrower(tunnel::mtu_towards(me, local, peer), local.underlay.mtu),
                src: None,
            }),
            Path::None => None,
        };
        if let Some(route) = route {
            let to = cidr.network();
            objects.insert(Key::Route(to, metric(&to)), Value::Route(route));
        }
    }
    objects
}

/// Every key that a peer can own, whatever the mode and the path: for its old value, when it changed or departed.
pub fn keys(settings: &Settings, local: &Local, peer: &Member, ids: &NexthopIds) -> BTreeSet<Key> {
    let mut keys = BTreeSet::from([Key::Fdb(peer.mac)]);
    if let Some(at) = peer.underlay.get(settings.outer) {
        keys.insert(Key::Element(SetName::Peers(settings.outer), IpNetwork::from(at.address())));
        keys.extend(bound(peer, at.address()));
    }
    keys.extend(outside::elements(&settings.pools, peer));
    keys.extend(node_addresses(peer, local).map(|(set, address)| Key::Element(set, address)));
    for cidr in peer.pod_cidrs.iter() {
        let to = cidr.network();
        let gateway = gateway(peer, *cidr);
        keys.extend([Key::Route(to, metric(&to)), Key::Neighbour(local.device, gateway)]);
        keys.extend(ids.get(gateway).map(Key::Nexthop));
    }
    keys
}

/// The underlay address that an object is for, if members that announce the same one need the same object.
pub(super) fn address_needing(key: &Key) -> Option<IpAddr> {
    match key {
        Key::Element(SetName::Peers(_) | SetName::Nodes(_), host) => Some(host.ip()),
        _ => None,
    }
}

/// What pods are masqueraded towards whatever is said otherwise, as elements: needed only if something is.
pub(super) fn node_addresses(member: &Member, local: &Local) -> impl Iterator<Item = (SetName, IpNetwork)> + use<> {
    let addresses = member.underlay;
    let (v4, v6) = (local.unmasqueraded.has(Family::V4), local.unmasqueraded.has(Family::V6));
    let is_wanted = move |family| if family == Family::V4 { v4 } else { v6 };
    Family::ALL.into_iter().filter(move |family| is_wanted(*family)).filter_map(move |family| {
        addresses.get(family).map(|at| (SetName::Nodes(family), IpNetwork::from(at.address())))
    })
}

/// The gateways of a peer's nexthops.
pub(super) fn gateways(peer: &Member) -> impl Iterator<Item = IpAddr> {
    peer.pod_cidrs.iter().map(|cidr| gateway(peer, *cidr))
}

/// An IPv6 nexthop through a global address is refused while another route covers it, hence the link-local one.
fn gateway(peer: &Member, cidr: PodCidr) -> IpAddr {
    match cidr.family() {
        Family::V4 => cidr.vtep(),
        Family::V6 => peer.mac.link_local().into(),
    }
}

/// Forwarding entry and source filters; false where peer or node cannot tunnel.
fn forwarding(objects: &mut Objects, settings: &Settings, me: &Member, local: &Local, peer: &Member) -> bool {
    let (Some(_), Some(at)) = (tunnel::device(settings, me, local), peer.underlay.get(settings.outer)) else {
        return false;
    };
    let host = IpNetwork::from(at.address());
    objects.insert(Key::Element(SetName::Peers(settings.outer), host), Value::Present);
    objects.extend(bound(peer, at.address()).map(|key| (key, Value::Present)));
    objects.insert(Key::Fdb(peer.mac), Value::Fdb(at.address()));
    true
}

/// Whose pods the peer's tunnel packets may come from: its own. No two members have the same CIDR, so none share a pair.
fn bound(peer: &Member, outer: IpAddr) -> impl Iterator<Item = Key> + use<> {
    let cidrs = peer.pod_cidrs;
    Family::ALL.into_iter().filter_map(move |family| cidrs.get(family).map(|cidr| Key::Bound(outer, cidr.network())))
}

fn nexthop(objects: &mut Objects, local: &Local, peer: &Member, cidr: PodCidr, ids: &mut NexthopIds) -> Option<u32> {
    let gateway = gateway(peer, cidr);
    let id = ids.id(gateway)?;
    objects.insert(Key::Neighbour(local.device, gateway), Value::Neighbour(peer.mac));
    objects.insert(Key::Nexthop(id), Value::Nexthop(gateway));
    Some(id)
}

/// The path MTU is that of the narrower end.
fn through_tunnel(settings: &Settings, me: &Member, local: &Local, peer: &Member, id: u32) -> Route {
    let of_device = tunnel::mtu(settings, me, tunnel::own_mtu(me, local));
    let of_path = tunnel::mtu(settings, me, tunnel::mtu_towards(me, local, peer));
    Route { via: Via::Nexthop(id), mtu: narrower(of_path, of_device), src: None }
}

/// A route's MTU, unless the link's own says the same.
fn narrower(of_path: u32, of_link: u32) -> Option<u32> {
    (of_path < of_link).then_some(of_path)
}
