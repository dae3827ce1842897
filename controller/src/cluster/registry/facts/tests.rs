//! Who may have which underlay address.

use weft_core::{
    alloc::Pool,
    encap::Endpoint,
    membership::More,
    types::{Mac, PerFamily, Revision, UnixMs},
};

use super::*;
use crate::cluster::admission::Admission;
use crate::store::{NodeFacts, NodeRecord, Stored};

pub(in crate::cluster) fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

pub(in crate::cluster) fn facts(v4: Option<&str>, v6: Option<&str>) -> Facts {
    let read = |text: Option<&str>| text.map(|text| text.parse().expect("an address"));
    Facts {
        underlay: PerFamily { v4: read(v4), v6: read(v6) },
        underlay_mtu: 1500,
        gateways: Vec::new(),
        agent_version: "1".to_owned(),
        generation: 0,
    }
}

/// Nodes `old`, which holds an address of each family, and `new`, which has none yet.
pub(in crate::cluster) fn registry() -> Registry {
    let node = |text: &str, number: u8, facts: Option<Facts>| NodeRecord {
        name: name(text),
        incarnation: 1,
        pod_cidrs: PerFamily { v4: Some(format!("10.244.{number}.0/24").parse().expect("a CIDR")), v6: None },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0, 0, 0, 0, number]) },
        more: More::default(),
        facts: facts.map(|facts| NodeFacts {
            underlay: facts.underlay,
            underlay_mtu: facts.underlay_mtu,
            agent_version: "1".to_owned(),
            generation: 0,
        }),
        joined: UnixMs(0),
        node_uid: None,
    };
    let held = facts(Some("192.0.2.1/24"), Some("2001:db8::1/64"));
    let stored = Stored { nodes: vec![node("new", 2, None), node("old", 1, Some(held))], ..Stored::default() };
    let pool = Pool::new("10.244.0.0/16".parse().expect("a CIDR"), 24).expect("a pool");
    Registry::new(stored, &[pool.into()], Admission::Tokens, |_| Revision::new(1, 0)).expect("sound records")
}

pub(in crate::cluster) fn source(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn an_address_that_no_host_can_have_is_refused_where_it_is_reported() {
    for (v4, v6) in [
        (Some("192.0.2.255/24"), None),
        (Some("192.0.2.0/24"), None),
        (Some("192.0.2.3/30"), None),
        (None, Some("2001:db8:7::/64")),
        (None, Some("2001:db8:7::4/126")),
    ] {
        let refused = registry().take_facts(&name("new"), &facts(v4, v6), source("192.0.2.9"), |_| true);
        let Err(refusal @ Refusal::AddressOfNoHost { .. }) = refused else { panic!("{v4:?} {v6:?}: {refused:?}") };
        assert!(refusal.to_string().contains("give the node's link another address"), "{refusal}");
    }
    for (v4, v6) in [
        (Some("192.0.2.255/23"), None),
        (Some("192.0.2.254/31"), None),
        (Some("192.0.2.255/31"), None),
        (Some("192.0.2.255/32"), None),
        (None, Some("2001:db8:7::/127")),
        (None, Some("2001:db8:7::/128")),
        (None, Some("2001:db8:7::ffff:ffff:ffff:ffff/64")),
    ] {
        let mut registry = registry();
        registry.underlays.networks = vec!["::/0".parse().expect("all"), "0.0.0.0/0".parse().expect("all")];
        let taken = registry.take_facts(&name("new"), &facts(v4, v6), source("192.0.2.9"), |_| true);
        assert!(taken.is_ok(), "{v4:?} {v6:?}: {taken:?}");
    }
}

#[test]
fn what_version_0_1_has_stored_is_loaded_without_that_address() {
    let mut registry = registry();
    let mut record = registry.nodes.remove(&name("old")).expect("it is there");
    record.facts.as_mut().expect("it has reported").underlay =
        facts(Some("192.0.2.255/24"), Some("2001:db8::1/64")).underlay;
    let stored = Stored { nodes: vec![record], ..Stored::default() };
    let pool = Pool::new("10.244.0.0/16".parse().expect("a CIDR"), 24).expect("a pool");
    let loaded = Registry::new(stored, &[pool.into()], Admission::Tokens, |_| Revision::new(1, 0)).expect("it loads");
    let underlay = loaded.nodes[&name("old")].underlay();
    assert!(underlay.v4.is_none() && underlay.v6.is_some());
}

#[test]
fn proven_beats_unproven_whoever_was_first() {
    let (old, new) = (name("old"), name("new"));
    let (claim, its_own) = (facts(Some("192.0.2.1/24"), None), facts(Some("192.0.2.1/24"), Some("2001:db8::1/64")));
    // Registered by a squatter that comes from elsewhere, or before an upgrade: the owner proves it, and has it.
    let mut registry = registry();
    let changed = registry.take_facts(&new, &claim, source("192.0.2.1"), |_| true).expect("it comes from there");
    assert_eq!(changed.losers, [(old.clone(), source("192.0.2.1"))]);
    assert_eq!(changed.touched, [old.clone(), new.clone()]);
    assert_eq!(registry.nodes[&old].underlay().v4, None);

    // A holder that proved it keeps it, connected or, against whoever proves nothing, away.
    let mut registry = self::registry();
    registry.take_facts(&old, &its_own, source("192.0.2.1"), |_| true).expect("its own");
    let refused = registry.take_facts(&new, &claim, source("192.0.2.1"), |_| true);
    assert!(
        matches!(refused, Err(Refusal::AddressTaken { holder, .. }) if holder == old),
        "two machines have one address"
    );
    for is_connected in [true, false] {
        let refused = registry.take_facts(&new, &claim, source("192.0.2.77"), |_| is_connected);
        assert!(refused.is_err(), "it proves nothing");
    }
    // What its other address vouches for is its own until somebody proves that one.
    let other = facts(None, Some("2001:db8::1/64"));
    let changed = registry.take_facts(&new, &other, source("2001:db8::1"), |_| true).expect("it comes from there");
    assert_eq!(changed.losers, [(old.clone(), source("2001:db8::1"))]);
    assert!(registry.nodes[&old].underlay().v4.is_some(), "that one it proved itself");
}

#[test]
fn a_proof_ends_with_the_address_that_it_is_of() {
    let (old, new) = (name("old"), name("new"));
    let mut registry = registry();
    registry.take_facts(&old, &facts(Some("192.0.2.1/24"), None), source("192.0.2.1"), |_| true).expect("its own");
    registry.take_facts(&old, &facts(Some("192.0.2.2/24"), None), source("192.0.2.2"), |_| true).expect("it moves");
    let claim = facts(Some("192.0.2.1/24"), None);
    registry.take_facts(&new, &claim, source("192.0.2.9"), |_| true).expect("nobody has it");
    // What its former holder once proved does not keep it now from who proves it.
    registry.take_facts(&old, &claim, source("192.0.2.1"), |_| true).expect("it is back, and proves it");
    assert_eq!(registry.addresses[&source("192.0.2.1")], old);
}

#[test]
fn a_silent_holder_loses_what_the_claimant_connects_from() {
    let mut registry = registry();
    let claim = facts(Some("192.0.2.1/24"), Some("2001:db8::1/64"));
    let refused = registry.take_facts(&name("new"), &claim, source("192.0.2.77"), |_| false);
    assert!(matches!(refused, Err(Refusal::AddressHeld { holder, .. }) if holder == name("old")));

    let changed = registry.take_facts(&name("new"), &claim, source("192.0.2.1"), |_| false).expect("it is there");
    assert_eq!(changed.touched, [name("old"), name("new")]);
    assert_eq!(changed.writes.len(), 2, "both must be persisted in one batch");
    assert!(registry.nodes[&name("old")].underlay().is_empty(), "two nodes have one address");
    assert!(registry.nodes[&name("old")].facts.is_some(), "the old holder is a member still");

    // The old holder reports again, elsewhere; its former address stays with the new one.
    let moved = facts(Some("192.0.2.9/24"), None);
    registry.take_facts(&name("old"), &moved, source("192.0.2.9"), |_| true).expect("an address of its own");
    assert_eq!(registry.addresses[&source("192.0.2.1")], name("new"));
    assert_eq!(registry.addresses[&source("192.0.2.9")], name("old"));
}

#[test]
fn what_is_unchanged_writes_nothing() {
    let mut registry = registry();
    let same = facts(Some("192.0.2.1/24"), Some("2001:db8::1/64"));
    let changed = registry.take_facts(&name("old"), &same, source("192.0.2.1"), |_| true).expect("its own");
    assert_eq!(changed, Changed::default());
}

#[test]
fn an_address_given_up_is_free() {
    let mut registry = registry();
    let other = facts(Some("192.0.2.2/24"), None);
    registry.take_facts(&name("old"), &other, source("192.0.2.2"), |_| true).expect("its own");
    let claim = facts(Some("192.0.2.1/24"), None);
    registry.take_facts(&name("new"), &claim, source("127.0.0.1"), |_| true).expect("nobody has it");
}
