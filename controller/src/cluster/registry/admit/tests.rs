//! What Nodes make of members, without a store.

use std::collections::BTreeMap;

use weft_core::{alloc::PoolRule, types::Revision};

use super::*;
use crate::{
    cluster::{AdmissionRule, admission::Admission},
    store::{Held, Stored},
};

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn cidr(text: &str) -> PodCidr {
    text.parse().expect(text)
}

fn registry_of(stored: Stored, pools: &[&str], who: NodeCidrs) -> Registry {
    let rules: Vec<PoolRule> = pools.iter().map(|text| text.parse().expect(text)).collect();
    let admission = Admission::new(AdmissionRule::Nodes(who), Family::V4);
    Registry::new(stored, &rules, admission, |_| Revision::new(1, 0)).expect("pools without overlaps")
}

fn registry(pools: &[&str], who: NodeCidrs) -> Registry {
    registry_of(Stored::default(), pools, who)
}

fn node(text: &str, uid: &str) -> NodeSeen {
    NodeSeen {
        name: name(text),
        uid: uid.to_owned(),
        created_unix: 1000,
        pod_cidrs: PerFamily::default(),
        cidrs_are_ours: false,
        addresses: vec!["192.0.2.1".parse().expect("an address")],
        labels: BTreeMap::new(),
    }
}

fn given(text: &str, uid: &str, v4: Option<&str>, v6: Option<&str>) -> NodeSeen {
    NodeSeen { pod_cidrs: PerFamily { v4: v4.map(cidr), v6: v6.map(cidr) }, ..node(text, uid) }
}

fn cidrs(outcome: &Outcome) -> Vec<String> {
    outcome.answer.as_ref().expect("taken in").pod_cidrs.iter().map(ToString::to_string).collect()
}

const DUAL: [&str; 2] = ["10.244.0.0/16=24", "fd00:10::/48=64"];

#[test]
fn a_new_node_gets_a_cidr_of_each_family_and_a_life_as_old_as_itself() {
    let mut registry = registry(&DUAL, NodeCidrs::Weft);
    let outcome = registry.admit(&node("a", "1"), UnixMs(5));
    assert_eq!(cidrs(&outcome), ["10.244.0.0/24", "fd00:10::/64"]);
    assert!(outcome.answer.expect("taken in").is_ours_to_write);
    assert_eq!(outcome.begun, Some(1000));
    let [Write::Node(record)] = outcome.changed.writes.as_slice() else { panic!("{:?}", outcome.changed.writes) };
    assert_eq!((record.node_uid.as_deref(), record.joined), (Some("1"), UnixMs(5)));
    let again = registry.admit(&node("a", "1"), UnixMs(9));
    assert_eq!((again.changed, again.begun), (Changed::default(), None), "nothing changed, and yet it is written");
    assert_eq!(registry.identify(&name("a"), Some("1")), Ok(1000));
    assert!(matches!(registry.identify(&name("a"), Some("0")), Err(Refusal::NodeReplaced { .. })));
    assert!(matches!(registry.identify(&name("b"), None), Err(Refusal::NodeUnseen { .. })));
}

#[test]
fn what_the_spec_says_is_respected_whoever_allocates() {
    for who in [NodeCidrs::Weft, NodeCidrs::KubeControllerManager, NodeCidrs::Auto] {
        let mut registry = registry(&DUAL, who);
        let outcome = registry.admit(&given("a", "1", Some("10.244.7.0/24"), Some("fd00:10:0:7::/64")), UnixMs(0));
        assert_eq!(cidrs(&outcome), ["10.244.7.0/24", "fd00:10:0:7::/64"], "{who:?}");
        assert!(!outcome.answer.expect("taken in").is_ours_to_write);
    }
}

#[test]
fn a_family_that_the_spec_leaves_out_is_left_out() {
    let mut registry = registry(&DUAL, NodeCidrs::Weft);
    assert_eq!(cidrs(&registry.admit(&given("a", "1", Some("10.244.7.0/24"), None), UnixMs(0))), ["10.244.7.0/24"]);
}

#[test]
fn nothing_is_given_while_others_allocate_or_it_is_open_who_does() {
    for who in [NodeCidrs::KubeControllerManager, NodeCidrs::Auto] {
        let mut registry = registry(&DUAL, who);
        let outcome = registry.admit(&node("a", "1"), UnixMs(0));
        assert!(matches!(outcome.answer, Err(Refusal::CidrsAwaited { .. })), "{who:?}");
        assert!(registry.nodes[&name("a")].pod_cidrs.is_empty());
        // It is a member that waits; what it waits for arrives.
        let outcome = registry.admit(&given("a", "1", Some("10.244.3.0/24"), None), UnixMs(0));
        assert_eq!((cidrs(&outcome).len(), outcome.begun), (1, None));
        assert!(registry.admission.problem(&name("a")).is_none());
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut registry = registry(&["10.244.0.0/16=24"], NodeCidrs::KubeControllerManager);
    assert_eq!(cidrs(&registry.admit(&given("a", "1", Some("10.244.1.0/24"), None), UnixMs(0))), ["10.244.1.0/24"]);
    let outside = registry.admit(&given("b", "2", Some("10.9.0.0/24"), None), UnixMs(0));
    assert!(matches!(&outside.answer, Err(Refusal::CidrOutsidePools { .. })));
    let overlapping = registry.admit(&given("c", "3", Some("10.244.0.0/23"), None), UnixMs(0));
    let Err(refusal) = &overlapping.answer else { panic!("two nodes have 10.244.1.0/24") };
    assert!(matches!(refusal, Refusal::CidrTaken { .. }));
    assert!(refusal.to_string().contains("10.244.1.0/24 of node a"), "{refusal}");
    assert!(["b", "c"].iter().all(|node| registry.admission.problem(&name(node)).is_some()));
    assert!(registry.nodes[&name("c")].pod_cidrs.is_empty());
    // The holder departs, and the other's turn has come.
    registry.depart(&name("a"));
    assert_eq!(cidrs(&registry.admit(&given("c", "3", Some("10.244.0.0/23"), None), UnixMs(0))), ["10.244.0.0/23"]);
}

#[test]
fn a_node_created_again_moves_to_a_pool_that_serves_it_now() {
    let mut registry = registry(&["10.244.0.0/16=24 zone=old", "10.245.0.0/16=24 zone=new"], NodeCidrs::Weft);
    let in_zone =
        |uid: &str, zone: &str| NodeSeen { labels: [("zone".to_owned(), zone.to_owned())].into(), ..node("a", uid) };
    assert_eq!(cidrs(&registry.admit(&in_zone("1", "old"), UnixMs(0))), ["10.244.0.0/24"]);
    let outcome = registry.admit(&in_zone("2", "new"), UnixMs(0));
    assert_eq!(cidrs(&outcome), ["10.245.0.0/24"], "draining a pool moves no node");
    assert_eq!(outcome.left, [cidr("10.244.0.0/24")]);
    let quarantine = Quarantined { cidr: cidr("10.244.0.0/24"), owner: name("a") };
    assert!(outcome.changed.writes.contains(&Write::Quarantine(quarantine)));
}

#[test]
fn a_node_created_again_begins_a_new_life_with_the_cidrs_of_its_pods() {
    let mut registry = registry(&["10.244.0.0/16=24"], NodeCidrs::Weft);
    registry.admit(&node("a", "1"), UnixMs(0));
    let outcome = registry.admit(&node("a", "2"), UnixMs(0));
    // Created in the same second, and yet a later life.
    assert_eq!((cidrs(&outcome), outcome.begun), (vec!["10.244.0.0/24".to_owned()], Some(1001)));
    assert_eq!(outcome.left, [], "others would be told to let go of what it has");
    assert!(outcome.changed.writes.contains(&Write::RemoveQuarantine(cidr("10.244.0.0/24"))));
    assert!(outcome.changed.writes.contains(&Write::RemoveLife(name("a"))));
    let later = NodeSeen { created_unix: 5000, ..node("a", "3") };
    assert_eq!(registry.admit(&later, UnixMs(0)).begun, Some(5000));
}

#[test]
fn a_node_created_again_with_its_cidr_keeps_it() {
    let mut registry = registry(&["10.244.0.0/16=24"], NodeCidrs::KubeControllerManager);
    registry.admit(&given("a", "1", Some("10.244.4.0/24"), None), UnixMs(0));
    let outcome = registry.admit(&given("a", "2", Some("10.244.4.0/24"), None), UnixMs(0));
    assert_eq!(cidrs(&outcome), ["10.244.4.0/24"]);
    assert!(outcome.changed.writes.contains(&Write::RemoveQuarantine(cidr("10.244.4.0/24"))));
    assert_eq!(registry.allocator.quarantined().count(), 0);
}

#[test]
fn another_allocator_may_give_what_is_in_quarantine_and_we_may_not() {
    let mut registry = registry(&["10.244.0.0/30=30"], NodeCidrs::Weft);
    registry.admit(&node("a", "1"), UnixMs(0));
    registry.depart(&name("a"));
    let refused = registry.admit(&node("b", "2"), UnixMs(0));
    assert!(matches!(&refused.answer, Err(Refusal::PoolsExhausted { .. })));
    assert!(registry.nodes.contains_key(&name("b")), "it waits as a member");
    let outcome = registry.admit(&given("b", "2", Some("10.244.0.0/30"), None), UnixMs(0));
    assert_eq!(cidrs(&outcome), ["10.244.0.0/30"]);
    assert!(outcome.changed.writes.contains(&Write::RemoveQuarantine(cidr("10.244.0.0/30"))));
}

#[test]
fn what_was_given_and_not_written_yet_stays() {
    let mut registry = registry(&["10.244.0.0/16=24 zone=a"], NodeCidrs::Weft);
    let labelled = |zone: &str| NodeSeen { labels: [("zone".to_owned(), zone.to_owned())].into(), ..node("a", "1") };
    assert_eq!(cidrs(&registry.admit(&labelled("a"), UnixMs(0))), ["10.244.0.0/24"]);
    // Its labels change before the Node object was written.
    assert_eq!(cidrs(&registry.admit(&labelled("b"), UnixMs(0))), ["10.244.0.0/24"]);
    // And now somebody else wrote it first: theirs counts.
    let outcome = registry.admit(&given("a", "1", Some("10.244.9.0/24"), None), UnixMs(0));
    assert_eq!((cidrs(&outcome), outcome.left), (vec!["10.244.9.0/24".to_owned()], vec![cidr("10.244.0.0/24")]));
}

#[test]
fn pools_are_chosen_by_label() {
    let mut registry = registry(&["10.244.0.0/16=24 zone=a", "10.245.0.0/16=26 zone!=a"], NodeCidrs::Weft);
    let labelled = NodeSeen { labels: [("zone".to_owned(), "a".to_owned())].into(), ..node("a", "1") };
    assert_eq!(cidrs(&registry.admit(&labelled, UnixMs(0))), ["10.244.0.0/24"]);
    assert_eq!(cidrs(&registry.admit(&node("b", "2"), UnixMs(0))), ["10.245.0.0/26"]);
    let mut registry = self::registry(&["10.244.0.0/16=24 zone=a"], NodeCidrs::Weft);
    let refused = registry.admit(&node("b", "2"), UnixMs(0)).answer.expect_err("no pool is for it");
    assert!(refused.to_string().contains("selector"), "{refused}");
}

#[test]
fn a_node_inside_a_pool_is_refused() {
    let mut registry = registry(&["192.0.0.0/16=24"], NodeCidrs::Weft);
    let refused = registry.admit(&node("a", "1"), UnixMs(0)).answer.expect_err("its address is in the pool");
    assert!(matches!(refused, Refusal::AddressInPool { .. }));
    assert!(registry.allocator.usage()[0].used == 0);
}

#[test]
fn what_a_cut_commit_left_is_the_nodes_own_and_nobody_elses() {
    let held = |third: u8, owner: &str| Held { cidr: cidr(&format!("10.244.{third}.0/24")), owner: name(owner) };
    let stored = Stored { held: vec![held(0, "a"), held(1, "gone")], ..Stored::default() };
    let mut registry = registry_of(stored, &["10.244.0.0/16=24"], NodeCidrs::Weft);
    assert_eq!(cidrs(&registry.admit(&node("b", "2"), UnixMs(0))), ["10.244.2.0/24"]);
    assert_eq!(cidrs(&registry.admit(&node("a", "1"), UnixMs(0))), ["10.244.0.0/24"]);
    assert!(registry.known().any(|known| *known == name("gone")));
    let (changed, left) = registry.depart(&name("gone"));
    assert_eq!(left, [cidr("10.244.1.0/24")]);
    assert_eq!(changed.writes.len(), 1, "{:?}", changed.writes);
    assert!(!registry.known().any(|known| *known == name("gone")));
}

#[test]
fn contradicting_records_do_not_keep_the_others_out() {
    let mut first = registry(&["10.244.0.0/16=24"], NodeCidrs::Weft);
    first.admit(&node("a", "1"), UnixMs(0));
    let record = first.nodes[&name("a")].clone();
    let mut twin = record.clone();
    twin.name = name("b");
    let stored = Stored { nodes: vec![record, twin], ..Stored::default() };
    let registry = registry_of(stored, &["10.244.0.0/16=24"], NodeCidrs::Weft);
    assert_eq!(registry.nodes[&name("a")].pod_cidrs.v4, Some(cidr("10.244.0.0/24")));
    assert_eq!(registry.nodes[&name("b")].pod_cidrs.v4, None);
}
