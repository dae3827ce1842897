//! Objects that the scenarios program.

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use weft_core::{
    encap::Encapsulation,
    kernel::{Device, Key, Objects, Route, Sysctl, UNREACHABLE_METRIC, Value, Via, metric},
    masquerade::Unmasqueraded,
    nft::{SetName, ruleset},
    settings::{Mode, Settings},
    types::{Family, LinkName, Mac, Vni},
};

/// First of our nexthop ids.
pub(crate) const FIRST_ID: u32 = 0x5745_0001;

pub(crate) fn device() -> LinkName {
    link("weft0")
}

pub(crate) fn link(name: &str) -> LinkName {
    name.parse().expect(name)
}

/// The host's end of a pod's veth.
pub(crate) fn pod_link() -> LinkName {
    link("wpod0123456789a")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

pub(crate) fn network(text: &str) -> IpNetwork {
    text.parse().expect(text)
}

pub(crate) fn vxlan() -> Device {
    Device {
        name: device(),
        mac: Mac::local([0, 0x57, 0, 0, 0, 1]),
        vni: Vni::new(87).expect("in range"),
        port: 4789,
        local: ip("10.0.0.1"),
        mtu: 1450,
        up: true,
    }
}

/// An ordinary route.
pub(crate) fn route(to: &str, via: Via) -> (Key, Value) {
    let to = network(to);
    (Key::Route(to, metric(&to)), Value::Route(Route { via, mtu: None, src: None }))
}

fn unreachable(to: &str) -> (Key, Value) {
    let value = Value::Route(Route { via: Via::Unreachable, mtu: None, src: None });
    (Key::Route(network(to), UNREACHABLE_METRIC), value)
}

fn settings() -> Settings {
    let pools = vec!["10.244.0.0/16".parse().expect("a CIDR"), "fd00:244::/48".parse().expect("a CIDR")];
    Settings {
        pools,
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("in range"), port: 4789, outer: Family::V4 },
        more: Default::default(),
    }
}

/// What a node needs for itself.
pub(crate) fn node() -> Objects {
    let prefixes = [(Family::V4, 24), (Family::V6, 64)].into_iter().collect();
    let rules = ruleset(&settings(), device(), &Unmasqueraded::default(), &prefixes);
    Objects::from([
        (Key::Device, Value::Device(vxlan())),
        (Key::Sysctl(Sysctl::ForwardV4), Value::Sysctl(1)),
        (Key::Sysctl(Sysctl::ForwardV6), Value::Sysctl(1)),
        (Key::Sysctl(Sysctl::AcceptRa(device())), Value::Sysctl(0)),
        (Key::Sysctl(Sysctl::RpFilter(device())), Value::Sysctl(2)),
        (Key::Address(ip("10.244.1.0")), Value::Present),
        (Key::Address(ip("fd00:244:0:1::")), Value::Present),
        (Key::Ruleset, Value::Ruleset(Arc::new(rules))),
        (Key::Element(SetName::Pools(Family::V4), network("10.244.0.0/16")), Value::Present),
        (Key::Element(SetName::Peers(Family::V4), network("10.0.0.1/32")), Value::Present),
        unreachable("10.244.0.0/16"),
        unreachable("10.244.1.0/24"),
        unreachable("fd00:244::/48"),
        unreachable("fd00:244:0:1::/64"),
    ])
}

/// What the peer of that number needs, in both families through the tunnel.
pub(crate) fn peer(number: u8) -> Objects {
    let mac = Mac::local([0, 0x57, 0, 0, 1, number]);
    let gateways = [ip(&format!("10.244.{number}.0")), IpAddr::from(mac.link_local())];
    let to = [format!("10.244.{number}.0/24"), format!("fd00:244:0:{number:x}::/64")];
    let underlay = ip(&format!("10.9.0.{number}"));
    let mut objects = Objects::from([
        (Key::Fdb(mac), Value::Fdb(underlay)),
        (Key::Element(SetName::Peers(Family::V4), IpNetwork::from(underlay)), Value::Present),
    ]);
    for (id, (gateway, to)) in (FIRST_ID + 2 * u32::from(number)..).zip(gateways.into_iter().zip(to)) {
        objects.insert(Key::Neighbour(device(), gateway), Value::Neighbour(mac));
        objects.insert(Key::Nexthop(id), Value::Nexthop(gateway));
        objects.insert(Key::Bound(underlay, network(&to)), Value::Present);
        let (key, _) = route(&to, Via::Unreachable);
        // Every third has a smaller path.
        let mtu = number.is_multiple_of(3).then_some(1350);
        objects.insert(key, Value::Route(Route { via: Via::Nexthop(id), mtu, src: Some(vtep(&key)) }));
    }
    objects
}

fn vtep(route: &Key) -> IpAddr {
    let v4 = matches!(route, Key::Route(IpNetwork::V4(_), _));
    if v4 { ip("10.244.1.0") } else { ip("fd00:244:0:1::") }
}

/// A peer in the same subnet.
pub(crate) fn neighbour_peer() -> Objects {
    Objects::from([
        route("10.244.200.0/24", Via::Gateway(ip("10.0.0.200"), link("eth0"))),
        route("fd00:244:0:c8::/64", Via::Gateway(ip("fd00:a::200"), link("eth0"))),
    ])
}

/// The host's side of a pod.
pub(crate) fn pod() -> Objects {
    let mac = Mac::local([0, 0x57, 9, 9, 9, 9]);
    let mut objects = Objects::from([
        (Key::Sysctl(Sysctl::SendRedirects(pod_link())), Value::Sysctl(0)),
        (Key::Neighbour(pod_link(), ip("10.244.1.7")), Value::Neighbour(mac)),
        (Key::Neighbour(pod_link(), ip("fd00:244:0:1::7")), Value::Neighbour(mac)),
    ]);
    for to in ["10.244.1.7/32", "fd00:244:0:1::7/128"] {
        let (key, _) = route(to, Via::Unreachable);
        objects.insert(key, Value::Route(Route { via: Via::Link(pod_link()), mtu: None, src: Some(vtep(&key)) }));
    }
    objects
}

/// All of it, with `peers` peers through the tunnel.
pub(crate) fn all(peers: u8) -> Objects {
    let mut objects = node();
    objects.extend(neighbour_peer());
    objects.extend(pod());
    for number in 2..2 + peers {
        objects.extend(peer(number));
    }
    objects
}
