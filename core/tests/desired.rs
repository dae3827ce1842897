//! What the desired state says for the cases that operators meet.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use weft_core::{
    desired::{self, Local, NexthopIds, Pod, Underlay, all, changed, peer, peer_keys, pod, pod_mtu},
    encap::{Encapsulation, Endpoint},
    kernel::{Device, Key, Objects, Route, Sysctl, UNREACHABLE_METRIC, Value, Via, metric},
    masquerade::Unmasqueraded,
    membership::{Member, More, Prefixes},
    nft::SetName,
    settings::{Mode, Settings},
    types::{Family, LinkName, Mac, NodeName, PerFamily, PodCidr, UnderlayAddress, Vni},
};

fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().unwrap_or_else(|| panic!("{text:?} cannot be read"))
}

fn link(name: &str) -> LinkName {
    parsed(name)
}

fn settings(mode: Mode, outer: Family) -> Settings {
    let pools = vec![parsed("10.244.0.0/16"), parsed("fd00:244::/48")];
    Settings {
        pools,
        mode,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("in range"), port: 4789, outer },
        more: More::default(),
    }
}

/// Node `n` with pods of both families and the underlay addresses given.
fn member(n: u8, underlay: [Option<&str>; 2], underlay_mtu: u32) -> Member {
    let cidrs: [PodCidr; 2] = [parsed(&format!("10.244.{n}.0/24")), parsed(&format!("fd00:244:0:{n}::/64"))];
    Member {
        name: NodeName::new(&format!("node-{n}")).expect("a name"),
        incarnation: 1,
        pod_cidrs: PerFamily { v4: Some(cidrs[0]), v6: Some(cidrs[1]) },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0x57, 0, 0, 0, n]) },
        underlay: PerFamily { v4: underlay[0].map(parsed), v6: underlay[1].map(parsed) },
        underlay_mtu,
        more: More::default(),
    }
}

/// What node `me` knows of itself when its kernel agrees with what it registered.
fn local(me: &Member) -> Local {
    let underlay = Underlay {
        link: link("eth0"),
        mtu: me.underlay_mtu,
        addresses: me.underlay,
        gateways: Default::default(),
        has_carrier: true,
        advertised_links: [].into(),
    };
    Local { device: link("weft0"), underlay, mtu_limit: None, unmasqueraded: Unmasqueraded::default() }
}

const ME: [Option<&str>; 2] = [Some("192.0.2.1/24"), Some("2001:db8:1::1/64")];
const NEAR: [Option<&str>; 2] = [Some("192.0.2.2/24"), Some("2001:db8:1::2/64")];
const FAR: [Option<&str>; 2] = [Some("198.51.100.3/24"), Some("2001:db8:2::3/64")];
const V4_ONLY: [Option<&str>; 2] = [Some("192.0.2.1/24"), None];
const NEAR_V4_ONLY: [Option<&str>; 2] = [Some("192.0.2.2/24"), None];

fn network(text: &str) -> IpNetwork {
    parsed(text)
}

fn route(objects: &Objects, to: &str) -> Option<Route> {
    let to = network(to);
    match objects.get(&Key::Route(to, metric(&to))) {
        Some(Value::Route(route)) => Some(*route),
        _ => None,
    }
}

fn device(objects: &Objects) -> Device {
    match objects.get(&Key::Device) {
        Some(Value::Device(device)) => *device,
        other => panic!("no device but {other:?}"),
    }
}

/// Follows a route as the kernel does: nexthop, neighbour, forwarding entry.
fn outer_address(objects: &Objects, to: &str) -> Option<IpAddr> {
    let Via::Nexthop(id) = route(objects, to)?.via else { return None };
    let Some(Value::Nexthop(gateway)) = objects.get(&Key::Nexthop(id)) else { return None };
    let Some(Value::Neighbour(mac)) = objects.get(&Key::Neighbour(link("weft0"), *gateway)) else { return None };
    match objects.get(&Key::Fdb(*mac)) {
        Some(Value::Fdb(address)) => Some(*address),
        _ => None,
    }
}

fn node(settings: &Settings, me: &Member, local: &Local) -> Objects {
    desired::node(settings, me, local, &Prefixes::of([me]))
}

fn peer_objects(settings: &Settings, me: &Member, other: &Member) -> Objects {
    peer(settings, me, &local(me), other, &mut NexthopIds::new())
}

#[test]
fn a_far_peer_is_reached_through_the_tunnel_in_both_families() {
    let (me, far) = (member(1, ME, 1500), member(3, FAR, 1500));
    for (outer, at) in [(Family::V4, "198.51.100.3"), (Family::V6, "2001:db8:2::3")] {
        let objects = peer_objects(&settings(Mode::CrossSubnet, outer), &me, &far);
        assert_eq!(outer_address(&objects, "10.244.3.0/24"), Some(parsed(at)));
        assert_eq!(outer_address(&objects, "fd00:244:0:3::/64"), Some(parsed(at)));
        let host = IpNetwork::from(parsed::<IpAddr>(at));
        assert!(objects.contains_key(&Key::Element(SetName::Peers(outer), host)), "its tunnel packets are dropped");
    }
}

fn pairs(keys: impl IntoIterator<Item = Key>) -> Vec<String> {
    let pair = |key: Key| if let Key::Bound(outer, inner) = key { Some(format!("{outer} {inner}")) } else { None };
    keys.into_iter().filter_map(pair).collect()
}

/// An own pair would only serve whoever forges the node's own address.
#[test]
fn a_peers_pods_come_from_the_peers_address_and_nobodys_from_the_nodes_own() {
    let (me, near, far) = (member(1, ME, 1500), member(2, NEAR, 1500), member(3, FAR, 1500));
    for (outer, at) in [(Family::V4, "198.51.100.3"), (Family::V6, "2001:db8:2::3")] {
        let settings = settings(Mode::CrossSubnet, outer);
        let wanted = [format!("{at} 10.244.3.0/24"), format!("{at} fd00:244:0:3::/64")];
        assert_eq!(pairs(peer_objects(&settings, &me, &far).into_keys()), wanted);
        assert_eq!(pairs(peer_keys(&settings, &local(&me), &far, &NexthopIds::new())), wanted, "they would stay");
        assert_eq!(pairs(peer_objects(&settings, &me, &near).into_keys()).len(), 2, "it may become far at any time");
        assert_eq!(pairs(node(&settings, &me, &local(&me)).into_keys()), [""; 0]);
    }
}

/// Another allocator's lengths may differ from the pools'; each has a rule of its own.
#[test]
fn the_rules_look_up_each_prefix_length_that_members_have() {
    let (me, far) = (member(1, ME, 1500), member(3, FAR, 1500));
    let wide = Member { pod_cidrs: PerFamily { v4: Some(parsed("10.244.16.0/20")), v6: None }, ..member(4, FAR, 1500) };
    let settings = settings(Mode::CrossSubnet, Family::V4);
    let sets = |members: &[&Member]| -> Vec<String> {
        let objects = all(&settings, &me, &local(&me), members.iter().copied(), &[], &mut NexthopIds::new());
        let Some(Value::Ruleset(ruleset)) = objects.get(&Key::Ruleset) else { panic!("there are rules") };
        let bound = ruleset.sets().into_iter().filter(|set| matches!(set, SetName::Bound(_)));
        bound.map(|set| set.to_string()).collect()
    };
    assert_eq!(sets(&[&me, &far]), ["bound4_4_24", "bound4_6_64"]);
    assert_eq!(sets(&[&me, &far, &wide]), ["bound4_4_20", "bound4_4_24", "bound4_6_64"]);
}

/// A CIDR that moves is the new node's, from its address alone.
#[test]
fn a_pair_moves_with_its_cidr() {
    let (me, old) = (member(1, ME, 1500), member(3, FAR, 1500));
    let new = Member { pod_cidrs: old.pod_cidrs, ..member(4, NEAR, 1500) };
    let loser = Member { pod_cidrs: PerFamily::default(), ..old.clone() };
    let settings = settings(Mode::CrossSubnet, Family::V4);
    let (keys, objects) =
        changed(&settings, &me, &local(&me), &[&old], &[&loser, &new], |_| true, &mut NexthopIds::new());
    assert_eq!(pairs(objects.into_keys()), ["192.0.2.2 10.244.3.0/24", "192.0.2.2 fd00:244:0:3::/64"]);
    assert_eq!(pairs(keys).len(), 4, "the old pairs have to go");
}

/// The IPv4 gateway is the VTEP address; the IPv6 one is link-local, as an onlink nexthop through a global address is
/// refused while a direct route covers it.
#[test]
fn gateways_are_such_that_the_kernel_takes_them() {
    let (me, near) = (member(1, ME, 1500), member(2, NEAR, 1500));
    let objects = peer_objects(&settings(Mode::CrossSubnet, Family::V4), &me, &near);
    let gateways: Vec<IpAddr> = objects
        .values()
        .filter_map(|value| match value {
            Value::Nexthop(gateway) => Some(*gateway),
            _ => None,
        })
        .collect();
    assert_eq!(gateways, ["10.244.2.0", "fe80::57:ff:fe00:2"].map(parsed::<IpAddr>));
}

#[test]
fn a_near_peer_takes_the_plain_route_and_only_the_route_differs() {
    let (me, near) = (member(1, ME, 1500), member(2, NEAR, 1500));
    let direct = peer_objects(&settings(Mode::CrossSubnet, Family::V4), &me, &near);
    let via = |text: &str| Route { via: Via::Gateway(parsed(text), link("eth0")), mtu: None, src: None };
    assert_eq!(route(&direct, "10.244.2.0/24"), Some(via("192.0.2.2")));
    assert_eq!(route(&direct, "fd00:244:0:2::/64"), Some(via("2001:db8:1::2")));
    let always = peer_objects(&settings(Mode::Always, Family::V4), &me, &near);
    assert_eq!(outer_address(&always, "10.244.2.0/24"), Some(parsed("192.0.2.2")));
    assert_eq!(outer_address(&always, "fd00:244:0:2::/64"), Some(parsed("192.0.2.2")));
    let without_routes = |objects: &Objects| -> Objects {
        objects.clone().into_iter().filter(|(key, _)| !matches!(key, Key::Route(..))).collect()
    };
    assert_eq!(without_routes(&direct), without_routes(&always));
}

#[test]
fn ipv6_pods_cross_an_ipv4_underlay_inside_the_tunnel_even_in_one_subnet() {
    let (me, near) = (member(1, V4_ONLY, 1500), member(2, NEAR_V4_ONLY, 1500));
    let objects = peer_objects(&settings(Mode::CrossSubnet, Family::V4), &me, &near);
    assert!(matches!(route(&objects, "10.244.2.0/24"), Some(Route { via: Via::Gateway(..), .. })));
    assert_eq!(outer_address(&objects, "fd00:244:0:2::/64"), Some(parsed("192.0.2.2")));
}

#[test]
fn subnets_must_agree_before_the_plain_route_is_trusted() {
    let me = member(1, [Some("192.0.2.1/16"), None], 1500);
    let other = member(2, [Some("192.0.3.2/24"), None], 1500);
    let objects = peer_objects(&settings(Mode::CrossSubnet, Family::V4), &me, &other);
    assert!(outer_address(&objects, "10.244.2.0/24").is_some(), "it does not see us on its link");
}

#[test]
fn mode_never_leaves_no_tunnel_and_no_route_to_far_peers() {
    let (me, near, far) = (member(1, ME, 1500), member(2, NEAR, 1500), member(3, FAR, 1500));
    let settings = settings(Mode::Never, Family::V4);
    let pods = [attached()];
    let objects = all(&settings, &me, &local(&me), [&me, &near, &far], &pods, &mut NexthopIds::new());
    let of_the_tunnel = |key: &Key, value: &Value| match (key, value) {
        // The pods' routes name the underlay address as source, which no device of ours holds.
        (Key::Route(..), Value::Route(route)) => matches!(route.via, Via::Nexthop(_)),
        _ => key.goes_with_device(Some(value), link("weft0")),
    };
    assert!(objects.iter().all(|(key, value)| !of_the_tunnel(key, value)));
    assert!(matches!(route(&objects, "10.244.2.0/24"), Some(Route { via: Via::Gateway(..), .. })));
    assert_eq!(route(&objects, "10.244.3.0/24"), None);
    assert!(
        objects.contains_key(&Key::Route(network("10.244.0.0/16"), UNREACHABLE_METRIC)),
        "it leaks to the default route"
    );
    let source = route(&objects, "10.244.1.5/32").expect("the pod's route").src;
    assert_eq!(pod_mtu(&settings, &me, &local(&me)), 1500, "nothing is encapsulated");
    assert_eq!(source, Some(parsed("192.0.2.1")), "there is no VTEP address to be the source");
}

#[test]
fn the_mtu_is_exact_for_either_outer_family() {
    let me = member(1, ME, 1500);
    for (outer, mtu) in [(Family::V4, 1450), (Family::V6, 1430)] {
        let settings = settings(Mode::CrossSubnet, outer);
        assert_eq!(device(&node(&settings, &me, &local(&me))).mtu, mtu);
        assert_eq!(pod_mtu(&settings, &me, &local(&me)), mtu);
    }
}

#[test]
fn a_route_names_an_mtu_only_where_the_peer_is_narrower() {
    let me = member(1, ME, 1500);
    for (theirs, outer, expected) in [
        (1400, Family::V4, Some(1350)),
        (1400, Family::V6, Some(1330)),
        (1500, Family::V4, None),
        (9000, Family::V4, None),
    ] {
        let objects = peer_objects(&settings(Mode::CrossSubnet, outer), &me, &member(3, FAR, theirs));
        assert_eq!(route(&objects, "10.244.3.0/24").map(|route| route.mtu), Some(expected), "peer's MTU {theirs}");
    }
}

/// Below 1280 the kernel would take IPv6 off the device.
#[test]
fn the_smallest_underlay_still_carries_ipv6_pods() {
    let me = member(1, ME, 1280);
    let settings = settings(Mode::CrossSubnet, Family::V6);
    assert_eq!(device(&node(&settings, &me, &local(&me))).mtu, 1280);
    let v4_only = Member { pod_cidrs: PerFamily { v6: None, ..me.pod_cidrs }, ..me };
    assert_eq!(device(&node(&settings, &v4_only, &local(&v4_only))).mtu, 1210);
}

#[test]
fn the_smallest_of_link_node_and_announcement_is_the_nodes_mtu() {
    let settings = settings(Mode::CrossSubnet, Family::V4);
    let me = member(1, ME, 1500);
    let mut local = local(&me);
    let near = member(2, NEAR, 1500);
    let of_route = |me: &Member, local: &Local| {
        let mut ids = NexthopIds::new();
        route(&peer(&settings, me, local, &near, &mut ids), "10.244.2.0/24").expect("a direct route").mtu
    };
    assert_eq!((device(&node(&settings, &me, &local)).mtu, of_route(&me, &local)), (1450, None));
    local.mtu_limit = Some(1400);
    assert_eq!((device(&node(&settings, &me, &local)).mtu, of_route(&me, &local)), (1350, Some(1400)));
    // The controller lowered it, and nobody has to be told but by that.
    let lowered = Member { underlay_mtu: 1300, ..me };
    assert_eq!((device(&node(&settings, &lowered, &local)).mtu, of_route(&lowered, &local)), (1280, Some(1300)));
}

/// Inside a subnet of mixed MTUs nobody answers that a packet was too big: large datagrams would be lost.
#[test]
fn a_direct_route_carries_no_more_than_the_peer_takes() {
    let settings = settings(Mode::CrossSubnet, Family::V4);
    let me = member(1, ME, 9000);
    for (theirs, expected) in [(1500, Some(1500)), (9000, None), (65_536, None)] {
        let objects = peer_objects(&settings, &me, &member(2, NEAR, theirs));
        for to in ["10.244.2.0/24", "fd00:244:0:2::/64"] {
            assert_eq!(route(&objects, to).expect("a direct route").mtu, expected, "{to} with {theirs}");
        }
    }
}

#[test]
fn the_device_speaks_from_the_registered_address() {
    let me = member(1, ME, 1500);
    let mut local = local(&me);
    local.underlay.addresses.v4 = Some(parsed::<UnderlayAddress>("192.0.2.99/24"));
    let settings = settings(Mode::CrossSubnet, Family::V4);
    assert_eq!(device(&node(&settings, &me, &local)).local, parsed::<IpAddr>("192.0.2.1"));
    let unregistered = Member { underlay: PerFamily::default(), ..me };
    assert_eq!(device(&node(&settings, &unregistered, &local)).local, parsed::<IpAddr>("192.0.2.99"));
}

#[test]
fn the_node_forwards_and_answers_for_its_overlay() {
    let me = member(1, ME, 1500);
    let mut local = local(&me);
    local.underlay.advertised_links = [link("eth0"), link("eth1")].into();
    let objects = node(&settings(Mode::CrossSubnet, Family::V4), &me, &local);
    let sysctl = |sysctl| objects.get(&Key::Sysctl(sysctl)).cloned();
    let set = |value| Some(Value::Sysctl(value));
    assert_eq!((sysctl(Sysctl::ForwardV4), sysctl(Sysctl::ForwardV6)), (set(1), set(1)));
    for from in ["eth0", "weft0"] {
        assert_eq!(sysctl(Sysctl::ForwardFrom(link(from))), set(1), "pods' packets from {from} would be dropped");
    }
    assert!(
        Key::Sysctl(Sysctl::ForwardV4) < Key::Sysctl(Sysctl::ForwardFrom(link("eth0"))),
        "the first sets the other"
    );
    for advertised in ["eth0", "eth1"] {
        assert_eq!(sysctl(Sysctl::AcceptRa(link(advertised))), set(2), "forwarding would end {advertised}'s routes");
    }
    assert!(Key::Sysctl(Sysctl::AcceptRa(link("eth0"))) < Key::Sysctl(Sysctl::ForwardV6), "set too late");
    assert_eq!((sysctl(Sysctl::RpFilter(link("weft0"))), sysctl(Sysctl::AcceptRa(link("weft0")))), (set(2), set(0)));
    for address in ["10.244.1.0", "fd00:244:0:1::"] {
        assert!(objects.contains_key(&Key::Address(parsed(address))));
    }
    for to in ["10.244.0.0/16", "10.244.1.0/24", "fd00:244::/48", "fd00:244:0:1::/64"] {
        let value = objects.get(&Key::Route(network(to), UNREACHABLE_METRIC));
        assert!(matches!(value, Some(Value::Route(Route { via: Via::Unreachable, .. }))), "{to}");
    }
}

fn attached() -> Pod {
    let addresses = PerFamily { v4: Some(parsed("10.244.1.5")), v6: Some(parsed("fd00:244:0:1::5")) };
    Pod { link: link("wpod0123456789a"), mac: Mac::local([2, 1, 2, 3, 4, 5]), addresses }
}

#[test]
fn a_pod_has_its_route_with_the_vtep_address_as_source_in_both_families() {
    let me = member(1, ME, 1500);
    let attached = attached();
    let objects = pod(&settings(Mode::CrossSubnet, Family::V4), &me, &local(&me), &attached);
    for (to, address, src) in
        [("10.244.1.5/32", "10.244.1.5", "10.244.1.0"), ("fd00:244:0:1::5/128", "fd00:244:0:1::5", "fd00:244:0:1::")]
    {
        let expected = Route { via: Via::Link(attached.link), mtu: None, src: Some(parsed(src)) };
        assert_eq!(route(&objects, to), Some(expected));
        let neighbour = objects.get(&Key::Neighbour(attached.link, parsed(address)));
        assert_eq!(neighbour, Some(&Value::Neighbour(attached.mac)));
    }
    let sysctl = |sysctl| objects.get(&Key::Sysctl(sysctl)).cloned();
    assert_eq!(sysctl(Sysctl::RpFilter(attached.link)), Some(Value::Sysctl(1)), "a pod could forge its source");
    assert_eq!(sysctl(Sysctl::AcceptRa(attached.link)), Some(Value::Sysctl(0)), "a pod could configure the host");
    assert_eq!(sysctl(Sysctl::SendRedirects(attached.link)), Some(Value::Sysctl(0)));
    assert_eq!(sysctl(Sysctl::ForwardFrom(attached.link)), Some(Value::Sysctl(1)), "a pod could send nothing");
}

/// The node got another CIDR: the pod's address may be another node's pod by now.
#[test]
fn a_pod_outside_the_nodes_cidrs_gets_no_route() {
    let me = member(2, NEAR, 1500);
    let objects = pod(&settings(Mode::CrossSubnet, Family::V4), &me, &local(&me), &attached());
    assert!(objects.keys().all(|key| matches!(key, Key::Sysctl(_))), "{objects:?}");
}

#[test]
fn a_peer_without_an_underlay_address_is_not_programmed() {
    let me = member(1, ME, 1500);
    let settings = settings(Mode::CrossSubnet, Family::V4);
    assert_eq!(peer_objects(&settings, &me, &member(3, [None, None], 0)), Objects::new());
    assert_eq!(peer_objects(&settings, &me, &me), Objects::new(), "the node is no peer of itself");
}

/// Whatever a departing peer claimed, the node's own objects are not up for removal.
#[test]
fn a_departing_peer_takes_nothing_of_the_nodes_own() {
    let me = member(1, ME, 1500);
    let impostor = Member { underlay: me.underlay, ..member(3, FAR, 1500) };
    let settings = settings(Mode::CrossSubnet, Family::V4);
    let (keys, objects) = changed(&settings, &me, &local(&me), &[&impostor], &[], |_| false, &mut NexthopIds::new());
    assert!(keys.contains(&Key::Fdb(impostor.endpoint.mac())) && objects.is_empty());
    let own = node(&settings, &me, &local(&me));
    assert_eq!(keys.iter().find(|key| own.contains_key(key)), None);
}

fn pools_of(objects: &Objects) -> Vec<String> {
    let network = |key: &Key| match key {
        Key::Element(SetName::Pools(_), network) => Some(network.to_string()),
        _ => None,
    };
    objects.keys().filter_map(network).collect()
}

#[test]
fn members_of_a_pool_that_was_taken_away_are_still_of_the_overlay() {
    let pools = vec![parsed("10.99.0.0/16"), parsed("fd00:244::/48")];
    let settings = Settings { pools, ..settings(Mode::CrossSubnet, Family::V4) };
    let (me, far) = (member(1, ME, 1500), member(3, FAR, 1500));
    let (local, mut ids) = (local(&me), NexthopIds::default());
    let before = all(&settings, &me, &local, [&me, &far], &[], &mut ids);
    assert_eq!(pools_of(&before), ["10.99.0.0/16", "10.244.1.0/24", "10.244.3.0/24", "fd00:244::/48"]);
    // Only its own element goes with a member, and comes with one.
    let (keys, objects) = changed(&settings, &me, &local, &[&far], &[], |_| false, &mut ids);
    let gone: Vec<&Key> = keys.iter().filter(|key| matches!(key, Key::Element(SetName::Pools(_), _))).collect();
    assert_eq!((gone.len(), pools_of(&objects).len()), (1, 0), "{gone:?}");
    let (_, objects) = changed(&settings, &me, &local, &[], &[&far], |_| false, &mut ids);
    assert_eq!(pools_of(&objects), ["10.244.3.0/24"]);
}
