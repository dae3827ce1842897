//! What a node needs for itself and for its pods.

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;

use super::{Local, Pod, outside, peer, tunnel};
use crate::{
    kernel::{Key, Objects, Route, Sysctl, UNREACHABLE_METRIC, Value, Via, metric},
    membership::{Member, Prefixes},
    nft::{SetName, ruleset},
    settings::{Mode, Settings},
    types::Family,
};

/// The objects of the node itself; its rules depend on the `prefixes` of all members' pod CIDRs.
pub fn node(settings: &Settings, me: &Member, local: &Local, prefixes: &Prefixes) -> Objects {
    let mut objects = Objects::new();
    objects.extend(tunnel::node(settings, me, local).unwrap_or_default());
    objects.extend(forwarding(me, local));
    objects.extend(unreachable(settings, me));
    objects.extend(table(settings, me, local, prefixes));
    objects
}

/// The host's side of one pod. An address outside the node's own CIDRs gets nothing: it may be another node's by now.
pub fn pod(settings: &Settings, me: &Member, local: &Local, pod: &Pod) -> Objects {
    let mut objects = Objects::from([
        // A redirect would tell a pod that its neighbour is on its link; with one veth each none is.
        sysctl(Sysctl::SendRedirects(pod.link), 0),
        sysctl(Sysctl::RpFilter(pod.link), 1),
        // A pod's router advertisement must not configure the host, whether or not the pod has IPv6 from us.
        sysctl(Sysctl::AcceptRa(pod.link), 0),
    ]);
    if pod.addresses.v4.is_some() {
        objects.extend([sysctl(Sysctl::ForwardFrom(pod.link), 1)]);
    }
    if pod.addresses.v6.is_some() {
        objects.extend([sysctl(Sysctl::DisableIpv6(pod.link), 0)]);
    }
    for address in pod.addresses.iter().copied().filter(|address| is_own(me, *address)) {
        let to = IpNetwork::from(address);
        let src = pod_route_source(settings, me, local, Family::of(address));
        let route = Route { via: Via::Link(pod.link), mtu: None, src };
        objects.insert(Key::Neighbour(pod.link, address), Value::Neighbour(pod.mac));
        objects.insert(Key::Route(to, metric(&to)), Value::Route(route));
    }
    objects
}

fn is_own(me: &Member, address: IpAddr) -> bool {
    me.pod_cidrs.get(Family::of(address)).is_some_and(|cidr| cidr.contains(address))
}

/// What the host's own packets to its pods come from: the VTEP address, which every node accepts inside the overlay, or
/// without a tunnel the underlay address.
fn pod_route_source(settings: &Settings, me: &Member, local: &Local, family: Family) -> Option<IpAddr> {
    if tunnel::has_end(settings, me, local) {
        me.pod_cidrs.get(family).map(|cidr| cidr.vtep())
    } else {
        local.underlay.addresses.get(family).map(|address| address.address())
    }
}

fn sysctl(sysctl: Sysctl, value: i32) -> (Key, Value) {
    (Key::Sysctl(sysctl), Value::Sysctl(value))
}

/// Forwarding in the families that the node has pods of. An administrator, networkd or a file of sysctls may switch it off
/// for one link, so the link by which pods' packets come from other nodes is named too.
fn forwarding(me: &Member, local: &Local) -> Vec<(Key, Value)> {
    let mut sysctls = Vec::new();
    if me.pod_cidrs.v4.is_some() {
        sysctls.extend([Sysctl::ForwardV4, Sysctl::ForwardFrom(local.underlay.link)].map(|it| sysctl(it, 1)));
    }
    if me.pod_cidrs.v6.is_some() {
        sysctls.extend(local.underlay.advertised_links.iter().map(|link| sysctl(Sysctl::AcceptRa(*link), 2)));
        sysctls.push(sysctl(Sysctl::ForwardV6, 1));
    }
    sysctls
}

/// Overlay addresses that nobody has never leave by the default route.
fn unreachable(settings: &Settings, me: &Member) -> impl Iterator<Item = (Key, Value)> {
    let value = Value::Route(Route { via: Via::Unreachable, mtu: None, src: None });
    let networks: Vec<_> = me.pod_cidrs.iter().chain(&settings.pools).map(|cidr| cidr.network()).collect();
    networks.into_iter().map(move |to| (Key::Route(to, UNREACHABLE_METRIC), value.clone()))
}

/// The nftables table with the pools, what of the node's pod CIDRs lies in none, and the node's own address.
fn table(settings: &Settings, me: &Member, local: &Local, prefixes: &Prefixes) -> Objects {
    let rules = Arc::new(ruleset(settings, local.device, &local.unmasqueraded, prefixes));
    let mut objects = Objects::from([(Key::Ruleset, Value::Ruleset(rules))]);
    for pool in &settings.pools {
        objects.insert(Key::Element(SetName::Pools(pool.family()), pool.network()), Value::Present);
    }
    objects.extend(outside::elements(&settings.pools, me).map(|key| (key, Value::Present)));
    objects.extend(unmasqueraded(me, local));
    if settings.mode != Mode::Never
        && let Some(own) = tunnel::outer_address(settings, me, local)
    {
        objects.insert(Key::Element(SetName::Peers(settings.outer()), IpNetwork::from(own)), Value::Present);
    }
    objects
}

/// Where pods go under their own addresses, and the node's addresses among it, which they never do.
fn unmasqueraded(me: &Member, local: &Local) -> impl Iterator<Item = (Key, Value)> {
    let list = local.unmasqueraded.networks();
    let wanted = list.iter().map(|network| (SetName::Unmasqueraded(Family::of(network.ip())), *network));
    wanted.chain(peer::node_addresses(me, local)).map(|(set, network)| (Key::Element(set, network), Value::Present))
}
