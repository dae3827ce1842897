//! What halves of commits, and hands' edits, are taken for.

use k8s_openapi::serde_json::json;
use weft_api::claim_name;
use weft_core::types::Mac;

use super::*;
use crate::store::{Held, Quarantined, Stored};

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn cidr(third: u8) -> PodCidr {
    format!("10.244.{third}.0/24").parse().expect("a CIDR")
}

fn vtep(name: &str, third: Option<u8>) -> Found {
    let spec = VtepSpec {
        node_uid: format!("uid-{name}"),
        incarnation: 7,
        pod_cidrs: third.map(|third| cidr(third).to_string()).into_iter().collect(),
        mac: Mac::local([2, 0, 0, 0, 0, name.as_bytes()[0]]).to_string(),
        underlay_mtu: 1500,
        ..VtepSpec::default()
    };
    Found { name: name.to_owned(), spec: serde_json::to_value(spec).expect("plain data") }
}

fn claim_of(name: &str, third: u8, released: bool) -> Found {
    let spec = claim(cidr(third), &self::name(name), 7, released);
    let spec = serde_json::to_value(spec).expect("plain data");
    Found { name: claim_name(cidr(third).network()).expect("no host bits"), spec }
}

fn stored(reading: &Reading) -> Stored {
    reading.model.stored()
}

fn owns(reading: &Reading, node: &str) -> Option<PodCidr> {
    reading.model.nodes[&name(node)].pod_cidrs.v4
}

#[test]
fn whole_objects_leave_nothing_to_do() {
    let reading = read(&[vtep("a", Some(1)), vtep("b", None)], &[claim_of("a", 1, false), claim_of("gone", 2, true)]);
    assert_eq!((owns(&reading, "a"), owns(&reading, "b")), (Some(cidr(1)), None));
    assert_eq!(stored(&reading).quarantine, [Quarantined { cidr: cidr(2), owner: name("gone") }]);
    assert_eq!(reading.unfinished, Touched::default());
    assert_eq!(reading.unreadable, []);
}

#[test]
fn a_claim_without_its_vtep_is_kept_for_its_node() {
    let reading = read(&[], &[claim_of("a", 1, false)]);
    assert_eq!(stored(&reading).held, [Held { cidr: cidr(1), owner: name("a") }]);
    // Also for a member that waits for a CIDR.
    let reading = read(&[vtep("a", None)], &[claim_of("a", 1, false)]);
    assert_eq!(stored(&reading).held, [Held { cidr: cidr(1), owner: name("a") }]);
}

#[test]
fn a_departure_that_was_cut_short_has_not_begun() {
    let reading = read(&[vtep("a", Some(1))], &[claim_of("a", 1, true)]);
    assert_eq!(owns(&reading, "a"), Some(cidr(1)));
    assert_eq!(stored(&reading).quarantine, []);
    assert!(reading.unfinished.claims.contains(&cidr(1)), "the mark is not taken back");
}

#[test]
fn an_exchange_that_was_cut_short_gives_its_node_one_cidr_and_nobody_the_other() {
    let reading = read(&[vtep("a", Some(1))], &[claim_of("a", 1, true), claim_of("a", 2, false)]);
    assert_eq!(owns(&reading, "a"), Some(cidr(1)));
    assert_eq!(stored(&reading).quarantine, [Quarantined { cidr: cidr(2), owner: name("a") }]);
}

#[test]
fn a_take_over_that_was_cut_short_leaves_the_cidr_with_its_member() {
    // Another allocator gave a's CIDR to b; the claim says so already, the Vteps do not.
    let reading = read(&[vtep("a", Some(1)), vtep("b", None)], &[claim_of("b", 1, false)]);
    assert_eq!((owns(&reading, "a"), owns(&reading, "b")), (Some(cidr(1)), None));
    // Now both do, as a's departure was not written yet: the claim decides.
    for both in [[vtep("a", Some(1)), vtep("b", Some(1))], [vtep("b", Some(1)), vtep("a", Some(1))]] {
        let reading = read(&both, &[claim_of("b", 1, false)]);
        assert_eq!((owns(&reading, "a"), owns(&reading, "b")), (None, Some(cidr(1))));
        assert!(reading.unfinished.vteps.contains(&name("a")));
    }
}

#[test]
fn a_missing_claim_is_made_again() {
    let reading = read(&[vtep("a", Some(1))], &[]);
    assert_eq!(owns(&reading, "a"), Some(cidr(1)));
    assert!(reading.unfinished.claims.contains(&cidr(1)));
}

#[test]
fn what_cannot_be_read_is_told_and_frees_nothing() {
    let broken = |mut found: Found, key: &str, value: Value| {
        found.spec[key] = value;
        found
    };
    let cases = [
        broken(vtep("a", Some(1)), "mac", json!("01:00:00:00:00:00")),
        broken(vtep("a", Some(1)), "podCIDRs", json!(["10.244.1.1/24"])),
        broken(vtep("a", Some(1)), "podCIDRs", json!(["10.244.1.0/24", "10.244.2.0/24"])),
        broken(vtep("a", Some(1)), "incarnation", json!("seven")),
        broken(vtep("a", Some(1)), "underlay", json!([{ "address": "127.0.0.1/8" }])),
        Found { name: "a".to_owned(), spec: Value::Null },
    ];
    for case in cases {
        let reading = read(&[case.clone(), vtep("b", Some(3))], &[claim_of("a", 1, false), claim_of("b", 3, false)]);
        assert_eq!(reading.nodes, [name("a")], "{case:?}");
        assert_eq!(reading.unreadable.len(), 1);
        assert_eq!(stored(&reading).held, [Held { cidr: cidr(1), owner: name("a") }]);
        assert_eq!(owns(&reading, "b"), Some(cidr(3)), "one bad object costs another one something");
    }
}

#[test]
fn a_claim_that_cannot_be_read_keeps_its_cidr_from_everybody() {
    let mut bad = claim_of("a", 1, false);
    bad.spec["node"] = json!("Not A Name");
    let nowhere = Found { name: "no-cidr".to_owned(), spec: json!({}) };
    let reading = read(&[], &[bad.clone(), nowhere]);
    assert_eq!(reading.unreadable.len(), 2);
    assert_eq!(stored(&reading).quarantine.iter().map(|entry| entry.cidr).collect::<Vec<_>>(), [cidr(1)]);
    // A member that lists it has it nevertheless.
    let reading = read(&[vtep("a", Some(1))], &[bad]);
    assert_eq!((owns(&reading, "a"), stored(&reading).quarantine.len()), (Some(cidr(1)), 0));
    assert!(reading.unfinished.claims.contains(&cidr(1)), "it is not mended");
}

#[test]
fn the_name_of_a_claim_counts_more_than_what_it_says() {
    let mut bad = claim_of("a", 1, false);
    bad.spec["cidr"] = json!("10.244.9.0/24");
    let reading = read(&[], &[bad]);
    assert_eq!(stored(&reading).held, [Held { cidr: cidr(1), owner: name("a") }]);
    assert_eq!(reading.unreadable.len(), 1);
}
