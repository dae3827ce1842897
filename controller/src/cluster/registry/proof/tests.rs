//! Which addresses nobody gets on a member's word alone.

use super::*;
use crate::cluster::registry::facts::tests::{facts, name, registry, source};

/// A member that proves 192.0.2.1/24 and 2001:db8::1/64, and names a router in either and one elsewhere.
fn with_routers() -> Registry {
    let mut registry = registry();
    let mut its_own = facts(Some("192.0.2.1/24"), Some("2001:db8::1/64"));
    its_own.gateways = vec![source("192.0.2.254"), source("198.51.100.254"), source("2001:db8::fe")];
    for from in ["192.0.2.1", "2001:db8::1"] {
        registry.take_facts(&name("old"), &its_own, source(from), |_| true).expect("its own");
    }
    registry
}

fn refused(registry: &mut Registry, v4: Option<&str>, v6: Option<&str>, from: &str) -> Option<Refusal> {
    registry.take_facts(&name("new"), &facts(v4, v6), source(from), |_| true).err()
}

#[test]
fn an_address_without_proof_lies_where_members_prove_theirs() {
    // What is registered proves nothing, as after an upgrade.
    let told = refused(&mut registry(), Some("192.0.2.7/24"), None, "203.0.113.1").expect("nobody proves anything");
    let told = told.to_string();
    for part in ["192.0.2.7", "node new", "203.0.113.1", "no member has proven", "underlayNetworks"] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
    assert_eq!(refused(&mut with_routers(), Some("192.0.2.7/24"), None, "203.0.113.1"), None);
    let elsewhere = refused(&mut with_routers(), Some("198.51.100.7/24"), None, "203.0.113.1");
    assert!(matches!(elsewhere, Some(Refusal::AddressUnproven { .. })), "{elsewhere:?}");
    // The family that the controller is not reached by: the other one vouches for it.
    assert_eq!(refused(&mut registry(), Some("198.51.100.7/24"), Some("2001:db8:7::1/64"), "198.51.100.7"), None);
    // Whoever proves it needs no neighbour, and what it has registered it keeps over whichever way.
    let mut registry = with_routers();
    assert_eq!(refused(&mut registry, Some("198.51.100.7/24"), None, "198.51.100.7"), None);
    assert_eq!(refused(&mut registry, Some("198.51.100.7/24"), None, "203.0.113.1"), None);
}

#[test]
fn the_networks_that_the_operator_names_are_the_only_ones() {
    let mut registry = with_routers();
    registry.underlays.networks = vec!["198.51.100.0/24".parse().expect("a network")];
    let told = refused(&mut registry, Some("192.0.2.7/24"), None, "203.0.113.1").expect("not one of them").to_string();
    assert!(told.contains("none of the underlayNetworks (198.51.100.0/24)"), "{told}");
    assert_eq!(refused(&mut registry, Some("192.0.2.7/24"), None, "192.0.2.7"), None, "it proves it");
    assert_eq!(refused(&mut registry, Some("198.51.100.7/24"), None, "203.0.113.1"), None);
}

#[test]
fn a_routers_address_is_for_who_connects_from_it() {
    for (v4, v6, from) in [
        (Some("192.0.2.254/24"), None, "192.0.2.7"),
        // Vouched for by the node's other address.
        (Some("198.51.100.7/24"), Some("2001:db8::fe/64"), "198.51.100.7"),
    ] {
        let told = refused(&mut with_routers(), v4, v6, from).expect("a router's").to_string();
        assert!(told.contains("is a router's, as node old says"), "{told}");
    }
    assert_eq!(refused(&mut with_routers(), Some("192.0.2.254/24"), None, "192.0.2.254"), None, "it proves it");
}

#[test]
fn what_a_member_says_of_routers_counts_near_it_and_against_no_member() {
    let mut registry = with_routers();
    registry.underlays.networks = vec!["0.0.0.0/0".parse().expect("a network")];
    // It proved no address of that subnet.
    assert_eq!(refused(&mut registry, Some("198.51.100.254/24"), None, "203.0.113.1"), None);
    // Registered by now, so that nobody who names it takes it away.
    let mut liar = facts(Some("192.0.2.1/24"), None);
    liar.gateways = vec![source("192.0.2.9")];
    assert_eq!(refused(&mut registry, Some("192.0.2.9/24"), None, "203.0.113.1"), None);
    registry.take_facts(&name("old"), &liar, source("192.0.2.1"), |_| true).expect("its own");
    assert_eq!(refused(&mut registry, Some("192.0.2.9/24"), None, "203.0.113.1"), None);
    // It has changed its mind, and then it is gone.
    assert!(registry.gateway_of(source("192.0.2.254")).is_none());
    assert!(registry.gateway_of(source("192.0.2.9")).is_some());
    registry.delete(&name("old"), None).expect("a member");
    assert!(registry.gateway_of(source("192.0.2.9")).is_none());
}

#[test]
fn the_controllers_own_address_is_for_its_own_host() {
    let mut registry = with_routers();
    registry.underlays.note_own(source("192.0.2.200"));
    let told = refused(&mut registry, Some("192.0.2.200/24"), None, "192.0.2.7").expect("the controller's").to_string();
    assert!(told.contains("192.0.2.200") && told.contains("the controller's own"), "{told}");
    assert_eq!(refused(&mut registry, Some("192.0.2.200/24"), None, "192.0.2.200"), None, "it is that host");
}

#[test]
fn whoever_speaks_from_elsewhere_proves_an_address_no_longer() {
    let mut registry = with_routers();
    let neighbours = Some("192.0.2.7/24");
    for from in ["192.0.2.7", "2001:db8::9"] {
        assert_eq!(refused(&mut registry, neighbours, Some("2001:db8::9/64"), from), None);
        let told = registry.take_facts(&name("old"), &facts(neighbours, None), source("192.0.2.7"), |_| true);
        assert!(matches!(told, Err(Refusal::AddressTaken { .. })), "its stream of either family is open: {told:?}");
    }
    assert_eq!(
        refused(&mut registry, neighbours, Some("2001:db8::9/64"), "192.0.2.66"),
        None,
        "registered is registered"
    );
    let its_own = registry.take_facts(&name("old"), &facts(neighbours, None), source("192.0.2.7"), |_| true);
    assert_eq!(its_own.expect("it proves it").losers, [(name("new"), source("192.0.2.7"))]);
}
