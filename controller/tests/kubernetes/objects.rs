//! Records and objects for these tests.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::Node,
    serde_json::{self, json},
};
use weft_controller::store::{NodeFacts, NodeRecord, Quarantined, Stored};
use weft_core::{
    encap::Endpoint,
    membership::More,
    types::{Mac, NodeName, PerFamily, PodCidr, UnixMs},
};

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

pub(crate) fn cidr(third: u8) -> PodCidr {
    format!("10.244.{third}.0/24").parse().expect("a CIDR")
}

/// A member with the `third` share of the pool.
pub(crate) fn record(text: &str, third: u8) -> NodeRecord {
    NodeRecord {
        name: name(text),
        incarnation: 1_700_000_000,
        pod_cidrs: PerFamily { v4: Some(cidr(third)), v6: format!("fd00:0:0:{third:x}::/64").parse().ok() },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0, 0, 0, 0, third]) },
        more: More::default(),
        facts: Some(NodeFacts {
            underlay: PerFamily { v4: format!("192.0.2.{}/24", third + 1).parse().ok(), v6: None },
            underlay_mtu: 1500,
            agent_version: "1.2.3".to_owned(),
            generation: 1,
        }),
        joined: UnixMs(1_700_000_000_000),
        node_uid: Some(format!("uid-{text}")),
    }
}

pub(crate) fn quarantined(third: u8, owner: &str) -> Quarantined {
    Quarantined { cidr: cidr(third), owner: name(owner) }
}

/// Who has each CIDR in any way; fails where two have one.
pub(crate) fn holders(stored: &Stored) -> BTreeMap<PodCidr, NodeName> {
    let mut holders = BTreeMap::new();
    let used = stored
        .nodes
        .iter()
        .flat_map(|node| node.pod_cidrs.iter().map(|cidr| (*cidr, node.name.clone())).collect::<Vec<_>>());
    let kept = stored.quarantine.iter().map(|entry| (entry.cidr, entry.owner.clone()));
    let held = stored.held.iter().map(|entry| (entry.cidr, entry.owner.clone()));
    for (cidr, owner) in used.chain(kept).chain(held) {
        if let Some(other) = holders.insert(cidr, owner.clone()) {
            panic!("{other} and {owner} both have {cidr}: {stored:#?}");
        }
    }
    holders
}

/// A Node as a kubelet registers it.
pub(crate) fn node(name: &str) -> Node {
    serde_json::from_value(json!({ "metadata": { "name": name, "labels": { "name": name } } })).expect("a Node")
}
