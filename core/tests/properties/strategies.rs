//! Small worlds, so that collisions happen all the time.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use weft_core::{
    desired::{Local, Underlay},
    encap::{Encapsulation, Endpoint},
    masquerade::Unmasqueraded,
    membership::{Member, More},
    settings::{Mode, Settings},
    types::{Family, LinkName, Mac, NodeName, PerFamily, PodCidr, UnderlayAddress, Vni},
};

/// How many nodes there are names for.
pub(crate) const NODES: u8 = 6;

pub(crate) fn name(node: u8) -> NodeName {
    NodeName::new(&format!("node-{node}")).expect("a node name")
}

pub(crate) fn cidr(family: Family, share: u8) -> PodCidr {
    // The last one is of another length, as other allocators may have it.
    let text = match (family, share) {
        (Family::V4, 4) => "10.244.4.0/26".to_owned(),
        (Family::V4, _) => format!("10.244.{share}.0/24"),
        (Family::V6, 4) => "fd00:244:0:4::/66".to_owned(),
        (Family::V6, _) => format!("fd00:244:0:{share:x}::/64"),
    };
    text.parse().expect("a pod CIDR")
}

pub(crate) fn pools() -> Vec<PodCidr> {
    ["10.244.0.0/16", "fd00:244::/48"].map(|text| text.parse().expect("a pool")).into()
}

pub(crate) fn link(name: &str) -> LinkName {
    LinkName::new(name).expect("a link name")
}

/// An underlay address in one of three subnets.
fn underlay(family: Family, node: u8, subnet: u8) -> UnderlayAddress {
    let text = match family {
        Family::V4 => format!("192.0.{subnet}.{}/24", node + 1),
        Family::V6 => format!("2001:db8:{subnet}::{}/64", node + 1),
    };
    text.parse().expect("an underlay address")
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: impl IntoIterator<Item = T>) -> impl Strategy<Value = T> {
    proptest::sample::select(values.into_iter().collect::<Vec<_>>())
}

prop_compose! {
    pub(crate) fn member_of(node: u8)(
        incarnation in 1..3_u64,
        v4 in proptest::option::weighted(0.8, 0..5_u8),
        v6 in proptest::option::weighted(0.8, 0..5_u8),
        // Mostly its own; for a while two nodes announce one that moves between them.
        host in prop_oneof![4 => Just(node), 1 => 0..NODES],
        under4 in proptest::option::weighted(0.8, 1..4_u8),
        under6 in proptest::option::weighted(0.6, 1..4_u8),
        underlay_mtu in one_of([0, 1400, 1500, 9000]),
        more in one_of([&[][..], &[1], &[8, 1]]),
    ) -> Member {
        Member {
            name: name(node),
            incarnation,
            pod_cidrs: PerFamily { v4: v4.map(|n| cidr(Family::V4, n)), v6: v6.map(|n| cidr(Family::V6, n)) },
            endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0x57, 0, 0, 0, node]) },
            underlay: PerFamily {
                v4: under4.map(|subnet| underlay(Family::V4, host, subnet)),
                v6: under6.map(|subnet| underlay(Family::V6, host, subnet)),
            },
            underlay_mtu,
            more: More::new(more),
        }
    }
}

pub(crate) fn member() -> impl Strategy<Value = Member> {
    (0..NODES).prop_flat_map(member_of)
}

prop_compose! {
    pub(crate) fn settings()(
        mode in one_of([Mode::CrossSubnet, Mode::Always, Mode::Never]),
        vni in 86..88_u32,
        outer in one_of(Family::ALL),
        more in one_of([&[][..], &[1], &[8, 1]]),
    ) -> Settings {
        Settings { pools: pools(), mode, encapsulation: Encapsulation::Vxlan { vni: Vni::new(vni).expect("in range"), port: 4789, outer }, more: More::new(more) }
    }
}

fn unmasqueraded() -> impl Strategy<Value = Unmasqueraded> {
    let lists = [&[][..], &["192.0.0.0/8"], &["0.0.0.0/0", "2001:db8::/32"]];
    one_of(lists).prop_map(|texts| Unmasqueraded::of(texts.iter().map(|text| text.parse().expect("a network"))))
}

prop_compose! {
    pub(crate) fn local()(mtu in one_of([1400, 1500, 9000]), mtu_limit in one_of([None, Some(1400)]), is_advertised: bool, unmasqueraded in unmasqueraded()) -> Local {
        let address = |text: &str| Some(text.parse().expect("an underlay address"));
        let addresses = PerFamily { v4: address("192.0.1.1/24"), v6: address("2001:db8:1::1/64") };
        Local {
            device: link("weft0"),
            mtu_limit,
            unmasqueraded,
            underlay: Underlay {
                link: link("eth0"),
                mtu,
                addresses,
                gateways: Default::default(),
                has_carrier: true,
                advertised_links: is_advertised.then(|| link("eth0")).into_iter().collect(),
            },
        }
    }
}

pub(crate) fn host(address: impl Into<IpAddr>) -> IpNetwork {
    IpNetwork::from(address.into())
}
