//! The tunnel, whatever its form: who has one, what fits into it, and which form's module says what the kernel needs.
//!
//! Owns the one place where the forms of [`Encapsulation`] are told apart in the desired state. Must never name an object of a form.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Local, NexthopIds, vxlan};
use crate::{
    encap::Encapsulation,
    kernel::{Key, Objects, Route, Via},
    membership::Member,
    settings::{Mode, Settings},
    types::{Family, PerFamily},
};

/// The smallest MTU that IPv6 works with (RFC 8200, section 5); below it the kernel switches IPv6 off on a link.
const MIN_MTU_V6: u32 = 1280;
/// The smallest MTU that IPv4 works with (RFC 791).
const MIN_MTU_V4: u32 = 68;

/// The node's end; none if nothing is ever encapsulated or no address could carry outer packets.
pub(super) fn node(settings: &Settings, me: &Member, local: &Local) -> Option<Objects> {
    if settings.mode == Mode::Never {
        return None;
    }
    match settings.encapsulation {
        Encapsulation::Vxlan { vni, port, .. } => {
            Some(vxlan::node(vxlan::device(vni, port, settings, me, local)?, me, local))
        }
    }
}

/// True if the node has an end of the tunnel.
pub(super) fn has_end(settings: &Settings, me: &Member, local: &Local) -> bool {
    settings.mode != Mode::Never && outer_address(settings, me, local).is_some()
}

/// What leads to a peer, and the routes to its pods; none of a family of which this node has no pods: there is no address of ours
/// inside the tunnel that a peer could answer.
pub(super) fn peer(
    settings: &Settings,
    me: &Member,
    local: &Local,
    peer: &Member,
    outer: IpAddr,
    ids: &mut NexthopIds,
) -> (Objects, PerFamily<Option<Route>>) {
    let families = Family::ALL.into_iter().filter(|family| me.pod_cidrs.get(*family).is_some());
    let (objects, nexthops) = match settings.encapsulation {
        Encapsulation::Vxlan { .. } => vxlan::peer(local, peer, outer, families, ids),
    };
    // The path MTU is that of the narrower end.
    let of_device = mtu(settings, me, own_mtu(me, local));
    let of_path = mtu(settings, me, mtu_towards(me, local, peer));
    let route = |id: u32| Route { via: Via::Nexthop(id), mtu: narrower(of_path, of_device), src: None };
    (objects, PerFamily { v4: nexthops.v4.map(route), v6: nexthops.v6.map(route) })
}

/// Every key of [`peer`] but routes, whatever the mode and the path.
pub(super) fn keys(settings: &Settings, local: &Local, peer: &Member, ids: &NexthopIds) -> BTreeSet<Key> {
    match settings.encapsulation {
        Encapsulation::Vxlan { .. } => vxlan::keys(local, peer, ids),
    }
}

/// Gives back the ids of peers' nexthops that none of `objects` is.
pub(super) fn release<'a>(
    settings: &Settings,
    peers: impl Iterator<Item = &'a Member>,
    objects: &Objects,
    ids: &mut NexthopIds,
) {
    let gateways = peers.flat_map(|peer| match settings.encapsulation {
        Encapsulation::Vxlan { .. } => vxlan::gateways(peer),
    });
    for gateway in gateways {
        if ids.get(gateway).is_some_and(|id| !objects.contains_key(&Key::Nexthop(id))) {
            ids.release(gateway);
        }
    }
}

/// The MTU of pods' interfaces: what fits into the tunnel, so that no path inside the cluster needs to be discovered; that
/// of the underlay in mode `never`.
pub fn pod_mtu(settings: &Settings, me: &Member, local: &Local) -> u32 {
    match settings.mode {
        Mode::Never => own_mtu(me, local),
        Mode::CrossSubnet | Mode::Always => mtu(settings, me, own_mtu(me, local)),
    }
}

/// The largest packet that this node sends to another: what it found itself, and no more than is announced of it, which the
/// controller may have lowered for the whole cluster.
pub(super) fn own_mtu(me: &Member, local: &Local) -> u32 {
    me.underlay_mtu.min(local.mtu())
}

/// The largest packet to a peer: that of the narrower end.
pub(super) fn mtu_towards(me: &Member, local: &Local, peer: &Member) -> u32 {
    own_mtu(me, local).min(peer.underlay_mtu)
}

/// A route's MTU, unless the link's own says the same.
pub(super) fn narrower(of_path: u32, of_link: u32) -> Option<u32> {
    (of_path < of_link).then_some(of_path)
}

/// The own underlay address of the outer family: the registered one, as that is where peers send to and whom they take
/// packets from; before the first registration the one that the link has.
pub(super) fn outer_address(settings: &Settings, me: &Member, local: &Local) -> Option<IpAddr> {
    let registered = me.underlay.get(settings.outer()).as_ref();
    registered.or(local.underlay.addresses.get(settings.outer()).as_ref()).map(|address| address.address())
}

/// The largest inner IP packet for an underlay MTU. If that is less than IPv6 can do with and there are IPv6 pods, outer
/// packets are fragmented instead: DF is unset.
pub(super) fn mtu(settings: &Settings, me: &Member, underlay_mtu: u32) -> u32 {
    let floor = if me.pod_cidrs.v6.is_some() { MIN_MTU_V6 } else { MIN_MTU_V4 };
    underlay_mtu.saturating_sub(settings.encapsulation.overhead()).max(floor)
}
