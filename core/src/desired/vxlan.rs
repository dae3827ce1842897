//! What VXLAN needs in the kernel, of the node itself and of each peer.
//!
//! Owns that half of the desired state. A packet to a pod of a peer across a router takes its objects in this order: the route to
//! the peer's pod CIDR names a nexthop object; the nexthop's gateway is the peer's VTEP address (IPv4) or a link-local one (IPv6)
//! on the VXLAN device; the gateway's permanent neighbour entry is the peer's VTEP MAC; the forwarding entry of that MAC is the
//! peer's underlay address. Must never hold anything that direct routing needs too.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Local, NexthopIds, tunnel};
use crate::{
    kernel::{Device, Key, Objects, Sysctl, Value},
    membership::Member,
    settings::Settings,
    types::{Family, PerFamily, PodCidr, Vni},
};

/// The device, if an address can carry outer packets.
pub(super) fn device(vni: Vni, port: u16, settings: &Settings, me: &Member, local: &Local) -> Option<Device> {
    Some(Device {
        name: local.device,
        mac: me.endpoint.mac(),
        vni,
        port,
        local: tunnel::outer_address(settings, me, local)?,
        mtu: tunnel::mtu(settings, me, tunnel::own_mtu(me, local)),
        up: true,
    })
}

/// The device with its settings and addresses.
pub(super) fn node(device: Device, me: &Member, local: &Local) -> Objects {
    let mut objects = Objects::from([(Key::Device, Value::Device(device))]);
    objects.extend(sysctls(me, local).into_iter().map(|(sysctl, value)| (Key::Sysctl(sysctl), Value::Sysctl(value))));
    objects.extend(me.pod_cidrs.iter().map(|cidr| (Key::Address(cidr.vtep()), Value::Present)));
    objects
}

fn sysctls(me: &Member, local: &Local) -> Vec<(Sysctl, i32)> {
    // Loose, because the direct route and the tunnel lead to the same peer and may change sides in between.
    let mut sysctls = vec![(Sysctl::RpFilter(local.device), 2), (Sysctl::AcceptRa(local.device), 0)];
    if me.pod_cidrs.v4.is_some() {
        sysctls.push((Sysctl::ForwardFrom(local.device), 1));
    }
    if me.pod_cidrs.v6.is_some() {
        sysctls.push((Sysctl::DisableIpv6(local.device), 0));
    }
    sysctls
}

/// What leads to a peer at `outer`, and the nexthops of its `families`.
pub(super) fn peer(
    local: &Local,
    peer: &Member,
    outer: IpAddr,
    families: impl Iterator<Item = Family>,
    ids: &mut NexthopIds,
) -> (Objects, PerFamily<Option<u32>>) {
    let mac = peer.endpoint.mac();
    let mut objects = Objects::from([(Key::Fdb(mac), Value::Fdb(outer))]);
    let mut nexthops = PerFamily::default();
    for (family, cidr) in families.filter_map(|family| Some((family, (*peer.pod_cidrs.get(family))?))) {
        let gateway = gateway(peer, cidr);
        let Some(id) = ids.id(gateway) else { continue };
        objects.insert(Key::Neighbour(local.device, gateway), Value::Neighbour(mac));
        objects.insert(Key::Nexthop(id), Value::Nexthop(gateway));
        *nexthops.get_mut(family) = Some(id);
    }
    (objects, nexthops)
}

/// Every key of [`peer`], whatever the mode and the path.
pub(super) fn keys(local: &Local, peer: &Member, ids: &NexthopIds) -> BTreeSet<Key> {
    let mut keys = BTreeSet::from([Key::Fdb(peer.endpoint.mac())]);
    for gateway in gateways(peer) {
        keys.insert(Key::Neighbour(local.device, gateway));
        keys.extend(ids.get(gateway).map(Key::Nexthop));
    }
    keys
}

/// The gateways of a peer's nexthops.
pub(super) fn gateways(peer: &Member) -> impl Iterator<Item = IpAddr> {
    peer.pod_cidrs.iter().map(|cidr| gateway(peer, *cidr))
}

/// An IPv6 nexthop through a global address is refused while another route covers it, hence the link-local one.
fn gateway(peer: &Member, cidr: PodCidr) -> IpAddr {
    match cidr.family() {
        Family::V4 => cidr.vtep(),
        Family::V6 => peer.endpoint.mac().link_local().into(),
    }
}
