//! Allocation: nothing overlaps, and nothing comes out of quarantine before its time.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_core::{
    alloc::{AllocError, Allocator, ClaimError, Pool, PoolError},
    types::{Family, NodeName, PodCidr, Revision},
};

use super::strategies::name;

#[derive(Debug, Clone)]
enum Step {
    Allocate(Family, u8),
    Claim(PodCidr, u8),
    Release(Family, u8),
    Clear(usize),
    ClearUpTo(u64),
}

fn family() -> impl Strategy<Value = Family> {
    proptest::sample::select(Family::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = (0..8_u32, 22..26_u8).prop_map(|(third, prefix)| {
        let first = ((10 << 24) | (third << 8)) & (u32::MAX << (32 - prefix));
        format!("{}/{prefix}", std::net::Ipv4Addr::from(first)).parse().expect("a pod CIDR")
    });
    prop_oneof![
        4 => (family(), 0..20_u8).prop_map(|(family, node)| Step::Allocate(family, node)),
        1 => (sizes, 0..20_u8).prop_map(|(cidr, node)| Step::Claim(cidr, node)),
        3 => (family(), 0..20_u8).prop_map(|(family, node)| Step::Release(family, node)),
        1 => (0..4_usize).prop_map(Step::Clear),
        1 => (0..40_u64).prop_map(Step::ClearUpTo),
    ]
}

fn pool(text: &str) -> Pool {
    text.parse().expect("a pool")
}

fn allocator(pools: &[&str]) -> Allocator {
    Allocator::new(pools.iter().map(|text| pool(text)).collect()).expect("pools without overlaps")
}

proptest! {
    #[test]
    fn never_overlaps_and_honours_the_quarantine(steps in proptest::collection::vec(step(), 1..120)) {
        let mut allocator = allocator(&["10.0.0.0/22=24", "10.0.6.0/23=25", "fd00:1::/60=64"]);
        let mut used: BTreeMap<(NodeName, Family), PodCidr> = BTreeMap::new();
        let mut quarantine: BTreeMap<PodCidr, Revision> = BTreeMap::new();
        for (at, step) in steps.into_iter().enumerate() {
            let revision = Revision::new(1, at as u64);
            match step {
                Step::Allocate(family, node) => {
                    if let Ok(cidr) = allocator.allocate(family, &name(node)) {
                        prop_assert_eq!(used.insert((name(node), family), cidr).unwrap_or(cidr), cidr);
                        prop_assert!(allocator.pools().any(|pool| pool.cidr().covers(&cidr)) || cidr.prefix() < 26);
                    }
                }
                Step::Claim(cidr, node) => {
                    let key = (name(node), cidr.family());
                    let free = !used.values().chain(quarantine.keys()).any(|taken| taken.overlaps(&cidr));
                    let expected = used.get(&key) == Some(&cidr) || (free && !used.contains_key(&key));
                    prop_assert_eq!(allocator.claim(cidr, &name(node)).is_ok(), expected);
                    if expected {
                        used.insert(key, cidr);
                    }
                }
                Step::Release(family, node) => {
                    if let Some(cidr) = used.remove(&(name(node), family)) {
                        prop_assert!(allocator.release(cidr, revision));
                        quarantine.insert(cidr, revision);
                    }
                }
                Step::Clear(nth) => {
                    if let Some(cidr) = quarantine.keys().nth(nth).copied() {
                        prop_assert!(allocator.clear(&cidr));
                        quarantine.remove(&cidr);
                    }
                }
                Step::ClearUpTo(sequence) => {
                    let acknowledged = Revision::new(1, sequence);
                    let mut due: Vec<_> = quarantine.iter().filter(|(_, at)| **at <= acknowledged).map(|(c, _)| *c).collect();
                    due.sort();
                    prop_assert_eq!(allocator.clear_up_to(acknowledged), due);
                    quarantine.retain(|_, at| *at > acknowledged);
                }
            }
            let taken: Vec<_> = used.values().chain(quarantine.keys()).collect();
            for (at, a) in taken.iter().enumerate() {
                prop_assert!(taken[..at].iter().all(|b| !a.overlaps(b)), "{a} overlaps another");
            }
        }
    }

    /// Nothing is lost either: whatever the history, all shares can be had in the end.
    #[test]
    fn finds_every_free_share(nodes in proptest::collection::vec(0..8_u8, 0..40)) {
        let mut allocator = allocator(&["10.0.0.0/22=24"]);
        for (at, node) in nodes.into_iter().enumerate() {
            match allocator.owner_of(Family::V4, &name(node)) {
                Some(cidr) => {
                    allocator.release(cidr, Revision::new(1, at as u64));
                    allocator.clear(&cidr);
                }
                None => drop(allocator.allocate(Family::V4, &name(node))),
            }
        }
        let used = usize::try_from(allocator.usage()[0].used).expect("few");
        let more = (100..104).filter(|node| allocator.allocate(Family::V4, &name(*node)).is_ok()).count();
        prop_assert_eq!(used + more, 4);
    }
}

#[test]
fn what_was_just_freed_is_not_the_next() {
    let mut allocator = allocator(&["10.0.0.0/22=24"]);
    let free = |node: u8, allocator: &mut Allocator| {
        let cidr = allocator.owner_of(Family::V4, &name(node)).expect("allocated");
        assert!(allocator.release(cidr, Revision::new(1, 1)) && allocator.clear(&cidr));
        cidr
    };
    for node in 0..4 {
        allocator.allocate(Family::V4, &name(node)).expect("free");
    }
    for node in [0, 2] {
        free(node, &mut allocator);
    }
    // The search went around the end and stands before the second share, which is freed only now.
    let first = allocator.allocate(Family::V4, &name(4)).expect("free");
    assert_eq!(first.to_string(), "10.0.0.0/24");
    let freed = free(1, &mut allocator);
    assert_ne!(allocator.allocate(Family::V4, &name(5)), Ok(freed));
}

#[test]
fn an_exhausted_pool_is_named_with_what_holds_it_and_what_to_do() {
    let mut allocator = allocator(&["10.0.0.0/23=24", "10.9.0.0/24=24", "fd00:1::/63=64"]);
    for node in 0..3 {
        allocator.allocate(Family::V4, &name(node)).expect("free");
    }
    let cidr = allocator.owner_of(Family::V4, &name(0)).expect("allocated");
    assert!(allocator.release(cidr, Revision::new(1, 5)));
    let error = allocator.allocate_all(&name(9)).expect_err("all are taken or in quarantine");
    assert!(matches!(error, AllocError::Exhausted { family: Family::V4, .. }));
    let text = error.to_string();
    for part in ["10.0.0.0/23=24 (1 of 2 in use, 1 in quarantine)", "10.9.0.0/24=24", "add a pool", "weft node delete"]
    {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(!text.contains("fd00"), "a pool of the other family is named: {text}");
    assert_eq!(allocator.owner_of(Family::V6, &name(9)), None, "half an allocation was left behind");
    assert_eq!(allocator.clear_up_to(Revision::new(1, 4)), []);
    assert_eq!(allocator.clear_up_to(Revision::new(1, 5)), [cidr]);
    assert_eq!(allocator.allocate(Family::V4, &name(9)), Ok(cidr));
}

#[test]
fn a_node_gets_both_families_or_nothing() {
    let mut allocator = allocator(&["10.0.0.0/23=24", "fd00:1::/64=64"]);
    allocator.allocate_all(&name(0)).expect("free");
    allocator.allocate_all(&name(1)).expect_err("IPv6 is exhausted");
    assert_eq!(allocator.owner_of(Family::V4, &name(1)), None);
    assert_eq!(allocator.usage()[0].used, 1, "the IPv4 half was left behind");
    // What a node had before stays its own when the rest cannot be had.
    let held = allocator.allocate(Family::V4, &name(2)).expect("free");
    allocator.allocate_all(&name(2)).expect_err("IPv6 is exhausted");
    assert_eq!(allocator.owner_of(Family::V4, &name(2)), Some(held));
}

#[test]
fn a_conflict_names_both_nodes() {
    let mut allocator = allocator(&["10.0.0.0/16=24"]);
    let cidr = |text: &str| text.parse::<PodCidr>().expect(text);
    allocator.claim(cidr("10.0.1.0/24"), &name(1)).expect("free");
    let error = allocator.claim(cidr("10.0.0.0/22"), &name(2)).expect_err("taken in part");
    assert!(matches!(error, ClaimError::Taken { .. }));
    assert!(error.to_string().contains("node-1") && error.to_string().contains("node-2"));
    assert!(matches!(allocator.claim(cidr("10.0.2.0/24"), &name(1)), Err(ClaimError::Another { .. })));
    allocator.release(cidr("10.0.1.0/24"), Revision::new(3, 1));
    let error = allocator.claim(cidr("10.0.1.0/24"), &name(2)).expect_err("in quarantine");
    assert!(error.to_string().contains("3.1") && error.to_string().contains("node-1"), "{error}");
}

#[test]
fn pools_that_overlap_are_refused() {
    let error = Allocator::new(vec![pool("10.0.0.0/8=24"), pool("10.1.0.0/16=26")]).expect_err("overlapping");
    assert!(matches!(error, PoolError::Overlap(..)));
}

/// Ten thousand nodes in pools without bound: the cost follows the nodes.
#[test]
fn serves_ten_thousand_nodes_of_a_pool_of_2_to_the_48() {
    let mut allocator = allocator(&["fd00::/16=64", "10.0.0.0/8=24"]);
    let node = |n: u32| NodeName::new(&format!("n{n}")).expect("a name");
    for n in 0..10_000 {
        allocator.allocate_all(&node(n)).expect("free");
    }
    let usage = allocator.usage();
    assert_eq!((usage[0].used, usage[0].total), (10_000, 1 << 48));
    assert_eq!((usage[1].used, usage[1].total), (10_000, 1 << 16));
}

#[test]
fn a_node_gets_its_share_of_the_pools_that_serve_it_only() {
    let mut allocator = allocator(&["10.0.0.0/24=24", "10.9.0.0/16=24", "fd00:1::/48=64"]);
    let second = |pool: &Pool| pool.to_string().starts_with("10.9");
    let cidrs = allocator.allocate_all_from(&name(0), &second).expect("free");
    assert_eq!((cidrs.v4.map(|cidr| cidr.to_string()), cidrs.v6), (Some("10.9.0.0/24".to_owned()), None));
    let error = allocator.allocate_all_from(&name(1), &|_| false).expect_err("no pool serves it");
    assert!(error.to_string().contains("10.9.0.0/16=24"), "{error}");
    let first = |pool: &Pool| !second(pool);
    allocator.allocate_all_from(&name(1), &first).expect("free");
    let error = allocator.allocate_all_from(&name(2), &first).expect_err("the first pool is full").to_string();
    assert!(error.contains("10.0.0.0/24=24") && !error.contains("10.9"), "{error}");
}

#[test]
fn what_shares_addresses_is_found_with_its_holder() {
    let mut allocator = allocator(&["10.0.0.0/16=24"]);
    let cidr = |text: &str| text.parse::<PodCidr>().expect(text);
    allocator.claim(cidr("10.0.1.0/24"), &name(1)).expect("free");
    allocator.quarantine(cidr("10.0.2.0/24"), &name(2), Revision::new(1, 1)).expect("free");
    assert_eq!(allocator.quarantined_in(&cidr("10.0.0.0/22")), [cidr("10.0.2.0/24")]);
    assert_eq!(allocator.holder_in(&cidr("10.0.0.0/22"), &name(3)), Some((name(1), cidr("10.0.1.0/24"))));
    assert_eq!(allocator.holder_in(&cidr("10.0.1.0/25"), &name(1)), None, "a node is in its own way");
    assert_eq!(allocator.departed().collect::<Vec<_>>(), [(cidr("10.0.2.0/24"), &name(2))]);
}
