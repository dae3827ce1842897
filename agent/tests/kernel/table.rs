//! The table that the nftables tests program.

use std::sync::Arc;

use weft_agent::kernel::nft::Nft;
use weft_core::{
    diff::Op,
    encap::Encapsulation,
    kernel::{Key, Objects, Value},
    masquerade::Unmasqueraded,
    nft::{Ruleset, SetName, ruleset},
    settings::{Mode, Settings},
    types::{Family, Vni},
};

pub(crate) const PEERS4: SetName = SetName::Peers(Family::V4);
pub(crate) const POOLS4: SetName = SetName::Pools(Family::V4);

/// The rules of a cluster with this outer family.
pub(crate) fn rules(outer: Family) -> Ruleset {
    let pools = vec!["10.244.0.0/16".parse().expect("a CIDR"), "fd00:244::/48".parse().expect("a CIDR")];
    let vni = Vni::new(87).expect("in range");
    let settings = Settings {
        pools,
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni, port: 4789, outer },
        more: Default::default(),
    };
    let prefixes = [(Family::V4, 20), (Family::V4, 24), (Family::V6, 64)].into_iter().collect();
    ruleset(&settings, "weft0".parse().expect("a name"), &Unmasqueraded::default(), &prefixes)
}

pub(crate) fn element(set: SetName, network: &str) -> Key {
    Key::Element(set, network.parse().expect(network))
}

/// A member's underlay address with its pod CIDR.
pub(crate) fn pair(outer: &str, inner: &str) -> Key {
    Key::Bound(outer.parse().expect(outer), inner.parse().expect(inner))
}

pub(crate) fn put(key: Key, value: Value) -> Op {
    Op::Put { key, value, old: None, replace: false }
}

pub(crate) fn put_rules(outer: Family) -> Op {
    put(Key::Ruleset, Value::Ruleset(Arc::new(rules(outer))))
}

/// Rules, both pools and three members, one of them with pods.
pub(crate) fn desired() -> Objects {
    let mut objects = Objects::from([(Key::Ruleset, Value::Ruleset(Arc::new(rules(Family::V4))))]);
    for (set, network) in [
        (POOLS4, "10.244.0.0/16"),
        (SetName::Pools(Family::V6), "fd00:244::/48"),
        (PEERS4, "10.0.0.9/32"),
        (PEERS4, "10.0.0.10/32"),
        (SetName::Peers(Family::V6), "fd00:a::9/128"),
    ] {
        objects.insert(element(set, network), Value::Present);
    }
    for inner in ["10.244.9.0/24", "fd00:244:0:9::/64"] {
        objects.insert(pair("10.0.0.9", inner), Value::Present);
    }
    objects
}

pub(crate) async fn apply(nft: &mut Nft, ops: &[Op]) {
    let failures = nft.apply(&ops.iter().collect::<Vec<_>>()).await;
    assert!(failures.is_empty(), "{failures:#?}");
}

/// A table as desired.
pub(crate) async fn programmed() -> Nft {
    let mut nft = Nft::open().expect("a socket");
    let ops: Vec<Op> = desired().into_iter().map(|(key, value)| put(key, value)).collect();
    apply(&mut nft, &ops).await;
    nft
}
