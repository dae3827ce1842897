//! Joining, without a store.

use std::collections::HashSet;

use weft_core::{alloc::Pool, types::Revision};

use super::*;
use crate::{cluster::admission::Admission, pki::JoinToken, store::Stored};

fn registry(pool: &str, prefix: u8) -> Registry {
    let pool = Pool::new(pool.parse().expect("a CIDR"), prefix).expect("a pool");
    Registry::new(Stored::default(), &[pool.into()], Admission::Tokens, |_| Revision::new(1, 0))
        .expect("nothing to contradict")
}

fn ask(registry: &mut Registry, node: &str, key: u8) -> JoinAsk {
    let token = JoinToken::generate([0; 32]).expect("random numbers");
    let node: NodeName = node.parse().expect("a name");
    let (id, secret_hash) = (token.id, token.secret_hash());
    registry.add_token(TokenRecord { id, secret_hash, node: node.clone(), expires_unix: 100, bound: None }, 0);
    JoinAsk { node, token, key_hash: [key; 32] }
}

#[test]
fn a_join_is_one_batch_of_node_and_token() {
    let mut registry = registry("10.244.0.0/16", 24);
    let ask = ask(&mut registry, "n1", 1);
    let joined = registry.join(&ask, UnixMs(1000)).expect("a good token");
    let [Write::Node(node), Write::Token(token)] = joined.changed.writes.as_slice() else {
        panic!("{:?}", joined.changed.writes)
    };
    assert_eq!((node.incarnation, joined.incarnation), (1, 1));
    assert_eq!(token.bound, Some(Binding { key_hash: [1; 32], incarnation: 1 }));
    let again = registry.join(&ask, UnixMs(1000)).expect("the same key");
    assert_eq!((again.incarnation, again.is_new_life), (1, false));
    assert!(again.changed.writes.is_empty());
}

#[test]
fn a_token_ends_but_its_binding_does_not() {
    let mut registry = registry("10.244.0.0/16", 24);
    let late = ask(&mut registry, "n1", 1);
    assert!(matches!(registry.join(&late, UnixMs(100_000)), Err(Refusal::TokenExpired { .. })));
    registry.join(&late, UnixMs(99_999)).expect("just in time");
    // The answer got lost, and the node asks again after the end.
    registry.join(&late, UnixMs(200_000)).expect("the same key");
}

#[test]
fn a_new_token_keeps_the_cidr_and_begins_a_new_life() {
    let mut registry = registry("10.244.0.0/16", 24);
    let first = ask(&mut registry, "n1", 1);
    registry.join(&first, UnixMs(0)).expect("a good token");
    let before = registry.nodes[&first.node].clone();
    let second = ask(&mut registry, "n1", 2);
    assert_eq!(registry.join(&second, UnixMs(0)).expect("a good token").incarnation, 2);
    let after = &registry.nodes[&first.node];
    assert_eq!((after.pod_cidrs, after.endpoint.mac()), (before.pod_cidrs, before.endpoint.mac()));
    assert!(matches!(registry.join(&first, UnixMs(0)), Err(Refusal::TokenUsed { .. })), "the earlier life came back");
}

#[test]
fn a_name_deleted_and_joined_in_one_batch_gets_another_cidr() {
    let mut registry = registry("10.244.0.0/16", 24);
    let first = ask(&mut registry, "n1", 1);
    registry.join(&first, UnixMs(0)).expect("a good token");
    let (_, cidrs) = registry.delete(&first.node, None).expect("a member");
    let second = ask(&mut registry, "n1", 2);
    assert_eq!(registry.join(&second, UnixMs(0)).expect("a good token").incarnation, 2);
    let fresh = registry.nodes[&first.node].pod_cidrs.v4.expect("a CIDR");
    assert!(!cidrs.contains(&fresh), "{fresh} is in quarantine");
}

#[test]
fn an_exhausted_pool_changes_nothing() {
    let mut registry = registry("10.244.0.0/30", 30);
    let first = ask(&mut registry, "n1", 1);
    registry.join(&first, UnixMs(0)).expect("one fits");
    let second = ask(&mut registry, "n2", 2);
    assert!(matches!(registry.join(&second, UnixMs(0)), Err(Refusal::PoolsExhausted { .. })));
    assert_eq!(registry.nodes.len(), 1);
    assert_eq!(registry.tokens[&second.token.id].bound, None, "the token is used up by a refusal");
}

#[test]
fn macs_are_derived_and_unique() {
    let mut registry = registry("10.0.0.0/8", 24);
    let name: NodeName = "n1".parse().expect("a name");
    let mac = registry.free_mac(&name);
    assert_eq!(registry.free_mac(&name), mac, "a name has one MAC");
    registry.macs.insert(mac);
    assert_ne!(registry.free_mac(&name), mac, "two nodes have one MAC");
    let all: HashSet<Mac> = (0..500).map(|n| registry.free_mac(&format!("n{n}").parse().expect("a name"))).collect();
    assert_eq!(all.len(), 500);
}
