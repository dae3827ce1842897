//! What a node needs for one peer, but for the tunnel's own objects.
//!
//! Owns which route leads to a peer's pods, and whom packets are taken from. All but the route is the same for a peer in the same
//! subnet, so that only the route ever switches. Must never know the form of the tunnel.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{Local, NexthopIds, outside, tunnel};
use crate::{
    kernel::{Key, Objects, Route, Value, Via, metric},
    membership::{Member, Path},
    nft::SetName,
    settings::Settings,
    types::{Family, PerFamily},
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
    let outer = peer.underlay.get(settings.outer()).filter(|_| tunnel::has_end(settings, me, local));
    let mut through = PerFamily::default();
    if let Some(outer) = outer {
        let (leading, routes) = tunnel::peer(settings, me, local, peer, outer.address(), ids);
        objects.extend(leading);
        objects.extend(taken_from(settings, peer, outer.address()).map(|key| (key, Value::Present)));
        through = routes;
    }
    for family in Family::ALL {
        let Some(cidr) = *peer.pod_cidrs.get(family) else { continue };
        let route = match me.path(peer, family, settings) {
            Path::Tunnel => *through.get(family),
            Path::Direct => peer.underlay.get(family).map(|at| direct(me, local, peer, at.address())),
            Path::None => None,
        };
        if let Some(route) = route {
            let to = cidr.network();
            objects.insert(Key::Route(to, metric(&to)), Value::Route(route));
        }
    }
    objects
}

/// The plain route to a peer in the same subnet.
fn direct(me: &Member, local: &Local, peer: &Member, at: IpAddr) -> Route {
    let mtu = tunnel::narrower(tunnel::mtu_towards(me, local, peer), local.underlay.mtu);
    Route { via: Via::Gateway(at, local.underlay.link), mtu, src: None }
}

/// Every key that a peer can own, whatever the mode and the path: for its old value, when it changed or departed.
pub fn keys(settings: &Settings, local: &Local, peer: &Member, ids: &NexthopIds) -> BTreeSet<Key> {
    let mut keys = tunnel::keys(settings, local, peer, ids);
    if let Some(outer) = peer.underlay.get(settings.outer()) {
        keys.extend(taken_from(settings, peer, outer.address()));
    }
    keys.extend(outside::elements(&settings.pools, peer));
    keys.extend(node_addresses(peer, local).map(|(set, address)| Key::Element(set, address)));
    keys.extend(peer.pod_cidrs.iter().map(|cidr| Key::Route(cidr.network(), metric(&cidr.network()))));
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

/// From which underlay address tunnel packets are taken, and with whose pods' packets inside: the peer's own. No two members have
/// the same CIDR, so none share a pair.
fn taken_from(settings: &Settings, peer: &Member, outer: IpAddr) -> impl Iterator<Item = Key> + use<> {
    let (cidrs, family) = (peer.pod_cidrs, settings.outer());
    let pairs = Family::ALL.into_iter().filter_map(move |inner| cidrs.get(inner).map(|cidr| cidr.network()));
    let address = Key::Element(SetName::Peers(family), IpNetwork::from(outer));
    std::iter::once(address).chain(pairs.map(move |inner| Key::Bound(outer, inner)))
}
