//! Table `inet weft` in a real kernel: what is written reads back, what others do to it is seen and put right, and
//! packets fare as the rules say. Every test has network namespaces of its own.

use ipnetwork::IpNetwork;
use tokio::sync::mpsc;
use weft_agent::kernel::{Event, nft::Nft};
use weft_core::{
    diff::Op,
    kernel::{Key, Objects, Seen, SeenObjects, Value, seen},
    nft::{CounterName, Ruleset, SetName},
    types::Family,
};

use crate::{
    foreign::{self, Edit, Foreign, nest, number, rule, text, verdict},
    netns::inside,
    packets,
    table::{PEERS4, POOLS4, apply, desired, element, pair, programmed, put, put_rules, rules},
};

fn ruleset_of(objects: &SeenObjects) -> Option<&Ruleset> {
    objects
        .values()
        .find_map(|value| if let Seen::As(Value::Ruleset(ruleset)) = value { Some(ruleset.as_ref()) } else { None })
}

#[test]
fn reads_back_what_it_wrote() {
    inside("nft::reads_back_what_it_wrote", || async {
        let mut nft = Nft::open().expect("a socket");
        assert_eq!(nft.read().await.expect("a reading"), SeenObjects::new(), "there is no table yet");
        let mut nft = programmed().await;
        assert_eq!(nft.read().await.expect("a reading"), seen(desired()));
        apply(&mut nft, &[put_rules(Family::V4)]).await;
        assert_eq!(nft.read().await.expect("a reading"), seen(desired()), "the same once more changes nothing");
        let gone = Op::Delete { key: Key::Ruleset, old: Seen::As(desired()[&Key::Ruleset].clone()) };
        apply(&mut nft, std::slice::from_ref(&gone)).await;
        apply(&mut nft, &[gone]).await;
        assert_eq!(nft.read().await.expect("a reading"), SeenObjects::new());
    });
}

#[test]
fn elements_come_and_go_alone() {
    inside("nft::elements_come_and_go_alone", || async {
        let mut nft = programmed().await;
        let delete = |set, network| Op::Delete { key: element(set, network), old: Seen::As(Value::Present) };
        // The wider pool overlaps the one it replaces, and one of the deletions is of what is not there.
        let ops = [
            put(element(PEERS4, "10.0.0.11/32"), Value::Present),
            put(element(POOLS4, "10.244.0.0/15"), Value::Present),
            delete(POOLS4, "10.244.0.0/16"),
            delete(PEERS4, "10.0.0.10/32"),
            delete(PEERS4, "10.0.0.77/32"),
        ];
        apply(&mut nft, &ops).await;
        let keys = ops.iter().map(|op| *op.key()).collect::<Vec<_>>();
        let found = nft.read_elements(&keys).await.expect("a reading");
        let wanted = [element(PEERS4, "10.0.0.11/32"), element(POOLS4, "10.244.0.0/15")];
        assert_eq!(found.into_keys().collect::<Vec<_>>(), wanted);
        let mut all = desired();
        ops.iter().for_each(|op| match op {
            Op::Put { key, value, .. } => drop(all.insert(*key, value.clone())),
            Op::Delete { key, .. } => drop(all.remove(key)),
        });
        assert_eq!(nft.read().await.expect("a reading"), seen(all));
    });
}

// The pool that goes contains what comes in its place, which an interval set refuses beside it.
#[test]
fn a_pool_that_goes_and_what_of_it_stays_are_one_transaction() {
    inside("nft::a_pool_that_goes_and_what_of_it_stays_are_one_transaction", || async {
        let mut nft = programmed().await;
        let members: Vec<Key> = (0..200).map(|n| element(POOLS4, &format!("10.244.{n}.0/24"))).collect();
        let mut ops: Vec<Op> = members.iter().map(|key| put(*key, Value::Present)).collect();
        ops.push(put(element(POOLS4, "10.99.0.0/16"), Value::Present));
        ops.push(Op::Delete { key: element(POOLS4, "10.244.0.0/16"), old: Seen::As(Value::Present) });
        let foreign = Foreign::open();
        let before = foreign.generation();
        apply(&mut nft, &ops).await;
        assert_eq!(foreign.generation(), before + 1);
        let keys: Vec<Key> = ops.iter().map(|op| *op.key()).collect();
        assert_eq!(nft.read_elements(&keys).await.expect("a reading").len(), members.len() + 1);
    });
}

#[test]
fn a_refusal_fails_every_operation_and_names_the_culprit_first() {
    inside("nft::a_refusal_fails_every_operation_and_names_the_culprit_first", || async {
        let mut nft = programmed().await;
        let bad = put(element(POOLS4, "10.0.0.0/8"), Value::Present);
        let good = put(element(PEERS4, "10.0.0.12/32"), Value::Present);
        let failures = nft.apply(&[&good, &bad]).await;
        let keys: Vec<Key> = failures.iter().map(|failure| failure.key).collect();
        assert_eq!(keys, [*bad.key(), *good.key()], "{failures:?}");
        assert_eq!(nft.read().await.expect("a reading"), seen(desired()), "nothing of it was applied");
    });
}

#[test]
fn ten_thousand_members_are_one_transaction() {
    inside("nft::ten_thousand_members_are_one_transaction", || async {
        for (family, prefix) in [(Family::V4, 32), (Family::V6, 128)] {
            let mut nft = programmed().await;
            let first = |index: u32| match family {
                Family::V4 => std::net::Ipv4Addr::from(0x0b00_0000 + index).into(),
                Family::V6 => std::net::Ipv6Addr::from((0xfd00_000b_u128 << 96) + u128::from(index)).into(),
            };
            let key =
                |index| Key::Element(SetName::Peers(family), IpNetwork::new(first(index), prefix).expect("a host"));
            let ops: Vec<Op> = (0..10_000).map(|index| put(key(index), Value::Present)).collect();
            let foreign = Foreign::open();
            let before = foreign.generation();
            apply(&mut nft, &ops).await;
            assert_eq!(foreign.generation(), before + 1, "{family}");
            // The kernel may still be moving them to a larger table.
            let wanted = ops.iter().map(|op| (*op.key(), Value::Present)).collect();
            let held = nft.read_expecting(&wanted).await.expect("a reading");
            assert_eq!(ops.iter().filter(|op| held.contains_key(op.key())).count(), 10_000);
            let deletions: Vec<Op> =
                ops.iter().map(|op| Op::Delete { key: *op.key(), old: Seen::As(Value::Present) }).collect();
            apply(&mut nft, &deletions).await;
            assert_eq!(nft.read().await.expect("a reading"), seen(desired()));
        }
    });
}

#[test]
fn the_pod_cidrs_of_ten_thousand_members_are_one_transaction() {
    inside("nft::the_pod_cidrs_of_ten_thousand_members_are_one_transaction", || async {
        let at = |family, first: u128, n: u32, bits: u32| match family {
            Family::V4 => std::net::IpAddr::from(std::net::Ipv4Addr::from(first as u32 + (n << bits))),
            Family::V6 => std::net::Ipv6Addr::from((first << 96) + (u128::from(n) << bits)).into(),
        };
        for (outer, first) in [(Family::V4, 0x0b00_0000), (Family::V6, 0xfd00_000b)] {
            let mut nft = programmed().await;
            apply(&mut nft, &[put_rules(outer)]).await;
            let bare = nft.read().await.expect("a reading");
            let pairs = |n| {
                let inner = [(Family::V4, 0x0c00_0000, 8, 24), (Family::V6, 0xfd00_000c, 64, 64)];
                inner.map(|(family, start, bits, prefix)| {
                    let network = IpNetwork::new(at(family, start, n, bits), prefix).expect("a network");
                    Key::Bound(at(outer, first, n, 0), network)
                })
            };
            for family in [0, 1] {
                let ops: Vec<Op> = (0..10_000).map(|n| put(pairs(n)[family], Value::Present)).collect();
                let foreign = Foreign::open();
                let before = foreign.generation();
                apply(&mut nft, &ops).await;
                assert_eq!(foreign.generation(), before + 1, "{outer}");
                let wanted: Objects = ops.iter().map(|op| (*op.key(), Value::Present)).collect();
                let held = nft.read_expecting(&wanted).await.expect("a reading");
                assert_eq!(ops.iter().filter(|op| held.contains_key(op.key())).count(), 10_000);
                // The rules change, and the pairs stay where they are.
                apply(&mut nft, &[put_rules(outer)]).await;
                let deletions: Vec<Op> =
                    ops.iter().map(|op| Op::Delete { key: *op.key(), old: Seen::As(Value::Present) }).collect();
                apply(&mut nft, &deletions).await;
                assert_eq!(nft.read().await.expect("a reading"), bare);
            }
        }
    });
}

#[test]
fn a_pod_cidr_that_moves_is_one_transaction() {
    inside("nft::a_pod_cidr_that_moves_is_one_transaction", || async {
        let mut nft = programmed().await;
        let (old, new) = (pair("10.0.0.9", "10.244.9.0/24"), pair("10.0.0.10", "10.244.9.0/24"));
        let foreign = Foreign::open();
        let before = foreign.generation();
        apply(&mut nft, &[put(new, Value::Present), Op::Delete { key: old, old: Seen::As(Value::Present) }]).await;
        assert_eq!(foreign.generation(), before + 1);
        let mut wanted = desired();
        wanted.remove(&old);
        wanted.insert(new, Value::Present);
        assert_eq!(nft.read().await.expect("a reading"), seen(wanted));
        assert_eq!(nft.read_elements(&[old, new]).await.expect("a reading"), seen([(new, Value::Present)].into()));
    });
}

/// What a foreign hand can do, by name.
fn edits() -> Vec<(&'static str, Vec<Edit>)> {
    use foreign::{DELETE_CHAIN, DELETE_OBJECT, DELETE_RULE, DELETE_SET, DELETE_TABLE, NEW_CHAIN, NEW_OBJECT, NEW_SET};
    let weft = || text(1, "weft");
    let flush = |chain| Edit::new(DELETE_RULE, &[weft(), text(2, chain)]);
    let flush_all = || Edit::new(DELETE_RULE, &[weft()]);
    let delete_set = |set| Edit::new(DELETE_SET, &[weft(), text(2, set)]);
    let new_set = |set, flags, more: &[_]| {
        let common = [weft(), text(2, set), number(3, flags), number(4, 7), number(5, 4), number(10, 1)];
        Edit::new(NEW_SET, &[&common[..], more].concat())
    };
    let new_pair = |key: &[u8]| {
        let key = nest(1, &[nest(1, &[netlink_packet_core::DefaultNla::new(1, key.to_vec())])]);
        Edit::new(foreign::NEW_ELEMENT, &[weft(), text(2, "bound4_4_24"), nest(3, &[key])])
    };
    let jump = ("immediate", vec![number(1, 0), nest(2, &[nest(2, &[number(1, -3_i32 as u32), text(2, "aside")])])]);
    let aside = || Edit::new(NEW_CHAIN, &[weft(), text(3, "aside")]);
    vec![
        ("a rule more", vec![rule("weft", "input", &[verdict(1)])]),
        ("a rule in front", vec![rule("weft", "input", &[verdict(1)]).first()]),
        ("a rule we have no words for", vec![rule("weft", "forward", &[("counter", vec![]), verdict(0)])]),
        ("no rules in a chain", vec![flush("forward")]),
        ("no rules at all", vec![flush_all()]),
        ("policy drop", vec![Edit::new(NEW_CHAIN, &[weft(), text(3, "forward"), number(5, 0)])]),
        ("a base chain more", vec![foreign::base_chain("weft", "theirs", 2, 0, 1)]),
        ("a chain that hides behind a jump", vec![aside(), rule("weft", "input", &[jump])]),
        (
            "another priority",
            vec![
                flush("input"),
                Edit::new(DELETE_CHAIN, &[weft(), text(3, "input")]),
                foreign::base_chain("weft", "input", 1, 10, 1),
            ],
        ),
        (
            "a counter less",
            vec![
                flush("forward"),
                flush("input"),
                Edit::new(DELETE_OBJECT, &[weft(), number(3, 1), text(2, "tunnel_from_pod")]),
            ],
        ),
        ("an object more", vec![Edit::new(NEW_OBJECT, &[weft(), text(2, "theirs"), number(3, 1), nest(4, &[])])]),
        ("a set more", vec![new_set("theirs", 0, &[])]),
        ("a set less", vec![flush_all(), delete_set("peers4")]),
        ("a set with timeouts", vec![flush_all(), delete_set("peers4"), new_set("peers4", 0x10, &[])]),
        (
            "a set with a limit",
            vec![flush_all(), delete_set("peers4"), new_set("peers4", 0, &[nest(9, &[number(1, 3)])])],
        ),
        ("a set of pairs less", vec![flush_all(), delete_set("bound4_6_64")]),
        ("a set of pairs that no rule looks up", vec![new_set("bound4_4_25", 0, &[])]),
        (
            "a set of pairs that holds single addresses",
            vec![flush_all(), delete_set("bound4_4_24"), new_set("bound4_4_24", 0, &[])],
        ),
        ("a pair that no rule can find", vec![new_pair(&[10, 0, 0, 9, 10, 244, 8, 1])]),
        ("an interval set that is none", vec![flush_all(), delete_set("pools4"), new_set("pools4", 0, &[])]),
        ("a sleeping table", vec![Edit::new(foreign::NEW_TABLE, &[weft(), number(2, 1)])]),
        ("no table", vec![Edit::new(DELETE_TABLE, &[weft()])]),
    ]
}

#[test]
fn every_foreign_edit_is_seen_and_put_right() {
    inside("nft::every_foreign_edit_is_seen_and_put_right", || async {
        let mut nft = programmed().await;
        let foreign = Foreign::open();
        for (name, edit) in edits() {
            foreign.edit(&edit);
            let found = nft.read().await.expect("a reading");
            assert_ne!(ruleset_of(&found), Some(&rules(Family::V4)), "{name} went unseen");

            // What the reconcile loop does: everything that differs, at once.
            let missing =
                desired().into_iter().filter(|(key, value)| found.get(key).is_none_or(|seen| !seen.is(value)));
            let repair: Vec<Op> = missing.map(|(key, value)| put(key, value)).collect();
            let before = foreign.generation();
            apply(&mut nft, &repair).await;
            assert_eq!(nft.read().await.expect("a reading"), seen(desired()), "after {name}");
            let transactions = if name == "a sleeping table" { 2 } else { 1 };
            assert_eq!(foreign.generation() - before, transactions, "{name} took several transactions");
        }
    });
}

#[test]
fn a_set_that_is_created_anew_keeps_its_elements() {
    inside("nft::a_set_that_is_created_anew_keeps_its_elements", || async {
        let mut nft = programmed().await;
        let key = |octet: u8| nest(1, &[nest(1, &[netlink_packet_core::DefaultNla::new(1, vec![10, 0, 0, octet])])]);
        let limited = edits().into_iter().find(|(name, _)| *name == "a set with a limit").expect("it is listed").1;
        let elements = nest(3, &[key(9), key(10)]);
        let refill = Edit::new(foreign::NEW_ELEMENT, &[text(1, "weft"), text(2, "peers4"), elements]);
        Foreign::open().edit(&[limited, vec![refill]].concat());
        apply(&mut nft, &[put_rules(Family::V4)]).await;
        assert_eq!(nft.read().await.expect("a reading"), seen(desired()));
    });
}

#[test]
fn foreign_tables_stay_as_they_are() {
    inside("nft::foreign_tables_stay_as_they_are", || async {
        use foreign::{INET, NEW_TABLE};
        use netlink_packet_netfilter::NetfilterProtoFamily::IPv4;
        let foreign = Foreign::open();
        let namesake = |edit: Edit| edit.family(IPv4);
        foreign.edit(&[
            Edit::new(NEW_TABLE, &[text(1, "other")]),
            foreign::base_chain("other", "forward", 2, 0, 1),
            rule("other", "forward", &[verdict(1)]),
            // The same name in another family is another table.
            namesake(Edit::new(NEW_TABLE, &[text(1, "weft")])),
            namesake(foreign::base_chain("weft", "forward", 2, 0, 1)),
            namesake(rule("weft", "forward", &[verdict(1)])),
        ]);
        let look = || -> Vec<Vec<Vec<u8>>> {
            let other = |kind| foreign.dump(kind, &[text(1, "other")], INET);
            let weft = |kind| foreign.dump(kind, &[text(1, "weft")], IPv4);
            vec![other(foreign::GET_RULE), weft(foreign::GET_RULE), weft(foreign::GET_CHAIN), weft(foreign::GET_SET)]
        };
        let before = look();
        assert!(before[..3].iter().all(|dump| !dump.is_empty()), "the foreign tables are there");
        let mut nft = programmed().await;
        apply(&mut nft, &[put_rules(Family::V4)]).await;
        apply(&mut nft, &[Op::Delete { key: Key::Ruleset, old: Seen::As(Value::Present) }]).await;
        assert_eq!(look(), before);
    });
}

/// So many more.
fn members(count: u32) -> impl Iterator<Item = Op> {
    let member = |index| IpNetwork::new(std::net::Ipv4Addr::from(0x0b00_0000 + index).into(), 32).expect("a host");
    (0..count).map(move |index| put(Key::Element(PEERS4, member(index)), Value::Present))
}

#[test]
fn events_tell_what_others_do_and_nothing_else() {
    inside("nft::events_tell_what_others_do_and_nothing_else", || async {
        let mut nft = programmed().await;
        let (sender, mut events) = mpsc::channel(64);
        nft.events(sender).expect("a subscription");
        let foreign = Foreign::open();
        apply(&mut nft, &members(1_000).chain([put_rules(Family::V4)]).collect::<Vec<_>>()).await;
        foreign.edit(&[Edit::new(foreign::NEW_TABLE, &[text(1, "other")])]);
        foreign.edit(&[rule("weft", "input", &[verdict(1)])]);
        assert_eq!(events.recv().await, Some(Event::Look));
        apply(&mut nft, &[put_rules(Family::V4)]).await;
        foreign.edit(&[Edit::new(foreign::DELETE_TABLE, &[text(1, "weft")])]);
        assert_eq!(events.recv().await, Some(Event::Look));
        assert!(events.try_recv().is_err(), "own changes and foreign tables are no events");
    });
}

#[test]
fn what_others_do_is_looked_at_after_thousands_of_own_changes_and_told_again_later() {
    inside("nft::what_others_do_is_looked_at_after_thousands_of_own_changes_and_told_again_later", || async {
        let mut nft = programmed().await;
        let (sender, mut events) = mpsc::channel(64);
        nft.events(sender).expect("a subscription");
        apply(&mut nft, &members(5_000).collect::<Vec<_>>()).await;
        assert_eq!(events.recv().await, Some(Event::Look), "nobody listened meanwhile");
        Foreign::open().edit(&[Edit::new(foreign::DELETE_TABLE, &[text(1, "weft")])]);
        assert_eq!(events.recv().await, Some(Event::Look));
        assert!(events.try_recv().is_err(), "own changes are no events");
    });
}

#[test]
fn counters_and_members_survive_a_repair() {
    inside("nft::counters_and_members_survive_a_repair", || async {
        let mut nft = programmed().await;
        packets::loopback().await;
        packets::tunnel("10.0.0.66", "10.0.0.1", 87);
        assert_eq!(nft.counter(CounterName::TunnelFromStranger).await.expect("a figure"), 1);
        Foreign::open().edit(&[rule("weft", "input", &[verdict(1)]).first()]);
        apply(&mut nft, &[put_rules(Family::V4)]).await;
        assert_eq!(nft.counter(CounterName::TunnelFromStranger).await.expect("a figure"), 1);
        assert_eq!(nft.read().await.expect("a reading"), seen(desired()));
    });
}
