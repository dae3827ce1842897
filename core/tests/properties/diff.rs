//! The diff: its plan leads to the desired state, the next one is empty, foreign objects stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{prelude::*, sample::select};
use weft_core::{
    diff::{Op, diff, diff_keys},
    encap::Encapsulation,
    kernel::{Device, Key, Objects, Observed, Route, Seen, Sysctl, Value, Via, metric, seen},
    masquerade::Unmasqueraded,
    nft::{SetName, ruleset},
    settings::Mode,
    types::{Family, Mac, Vni},
};

use super::{
    model,
    strategies::{cidr, host, link},
};

const NEXTHOP: u32 = 0x5745_0000;

fn mac(last: u8) -> Mac {
    Mac::local([2, 0, 0, 0, 0, last])
}

/// Every key of a small world with the values it can have.
fn world() -> Vec<(Key, Vec<Value>)> {
    let device = |vni, mtu, last| {
        Value::Device(Device {
            name: link("weft0"),
            mac: mac(1),
            vni: Vni::new(vni).expect("in range"),
            port: 4789,
            local: [192, 0, 2, last].into(),
            mtu,
            up: true,
        })
    };
    let route = |via, mtu| Value::Route(Route { via, mtu, src: None });
    let settings = |mode, port| weft_core::settings::Settings {
        pools: super::strategies::pools(),
        mode,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("in range"), port, outer: Family::V4 },
        more: Default::default(),
    };
    let table = |port| {
        let settings = settings(Mode::Always, port);
        let prefixes = [(Family::V4, 24)].into_iter().collect();
        Value::Ruleset(Arc::new(ruleset(&settings, link("weft0"), &Unmasqueraded::default(), &prefixes)))
    };
    let mut world = vec![
        (Key::Device, vec![device(87, 1450, 1), device(87, 1400, 2), device(88, 1450, 1)]),
        (Key::Sysctl(Sysctl::ForwardV4), vec![Value::Sysctl(0), Value::Sysctl(1)]),
        (Key::Sysctl(Sysctl::RpFilter(link("weft0"))), vec![Value::Sysctl(1), Value::Sysctl(2)]),
        (Key::Address([10, 244, 0, 0].into()), vec![Value::Present]),
        (Key::Ruleset, vec![table(4789), table(4790)]),
        (Key::Element(SetName::Peers(Family::V4), host([192, 0, 2, 9])), vec![Value::Present]),
        (Key::Element(SetName::Pools(Family::V4), "10.244.0.0/16".parse().expect("a network")), vec![Value::Present]),
        (Key::Bound([192, 0, 2, 9].into(), "10.244.1.0/24".parse().expect("a network")), vec![Value::Present]),
        (
            Key::Neighbour(link("wpod0"), [10, 244, 0, 2].into()),
            vec![Value::Neighbour(mac(8)), Value::Neighbour(mac(9))],
        ),
    ];
    for n in 0..3_u8 {
        let to = cidr(Family::V4, n + 1).network();
        let id = NEXTHOP + u32::from(n);
        let gateway = [10, 244, n + 1, 0].into();
        let paths = [
            route(Via::Nexthop(NEXTHOP), None),
            route(Via::Nexthop(id), Some(1350)),
            route(Via::Gateway([192, 0, 2, 9].into(), link("eth0")), None),
        ];
        world.extend([
            (Key::Fdb(mac(n)), vec![Value::Fdb([192, 0, 2, 7].into()), Value::Fdb([192, 0, 2, 8].into())]),
            (Key::Neighbour(link("weft0"), gateway), vec![Value::Neighbour(mac(n)), Value::Neighbour(mac(n + 3))]),
            (Key::Nexthop(id), vec![Value::Nexthop(gateway), Value::Nexthop([10, 244, 9, 0].into())]),
            (Key::Route(to, metric(&to)), paths.into()),
        ]);
    }
    world
}

/// Some of the world, without what cannot be.
fn objects() -> impl Strategy<Value = Objects> {
    let each = world().into_iter().map(|(key, values)| (Just(key), proptest::option::weighted(0.7, select(values))));
    each.collect::<Vec<_>>().prop_map(|picked| {
        let pairs = picked.into_iter().filter_map(|(key, value)| value.map(|value| (key, value)));
        let objects: Objects = pairs.collect::<BTreeMap<_, _>>();
        model::reachable(&objects, &[], link("weft0"))
    })
}

fn some_keys(weight: f64) -> impl Strategy<Value = BTreeSet<Key>> {
    let each = world().into_iter().map(move |(key, _)| (Just(key), proptest::bool::weighted(weight)));
    each.collect::<Vec<_>>().prop_map(|all| all.into_iter().filter(|(_, chosen)| *chosen).map(|(key, _)| key).collect())
}

/// What somebody can have set to what nobody wants, and whether the kernel takes what is wanted over it.
fn alteration(key: &Key) -> Option<Seen> {
    match key {
        Key::Fdb(_) => Some(Seen::Altered { in_place: false }),
        Key::Device => Some(Seen::Altered { in_place: false }),
        Key::Route(..) | Key::Nexthop(_) | Key::Address(_) | Key::Ruleset => Some(Seen::Altered { in_place: true }),
        _ => None,
    }
}

prop_compose! {
    fn observed(foreign: f64)(
        ours in objects(),
        altered in some_keys(0.15),
        foreign in some_keys(foreign),
    ) -> Observed {
        let foreign = foreign.into_iter().filter(|key| !ours.contains_key(key) && !matches!(key, Key::Sysctl(_)));
        let foreign = foreign.collect();
        let mut ours = seen(ours);
        for (key, seen) in &mut ours {
            if let Some(alteration) = alteration(key).filter(|_| altered.contains(key)) {
                *seen = alteration;
            }
        }
        let device = ours.contains_key(&Key::Device).then(|| link("weft0"));
        Observed { foreign, ours, device, links: BTreeSet::new() }
    }
}

proptest! {
    #[test]
    fn leads_to_the_desired_state_and_then_rests(before in observed(0.0), desired in objects()) {
        let device = link("weft0");
        let plan = diff(&before, &desired, &|_| false, device);
        prop_assert!(plan.conflicts.is_empty());
        let mut after = before.clone();
        prop_assert_eq!(model::run(&mut after, &plan.ops, device), Ok(()));
        after.ours.retain(|key, _| !matches!(key, Key::Sysctl(_)) || desired.contains_key(key));
        prop_assert_eq!(&after.ours, &seen(desired.clone()));
        prop_assert!(diff(&after, &desired, &|_| false, device).is_empty());
    }

    #[test]
    fn leaves_foreign_objects_alone(before in observed(0.2), desired in objects(), held in some_keys(0.3)) {
        let device = link("weft0");
        let is_held = |key: &Key| held.contains(key);
        let plan = diff(&before, &desired, &is_held, device);
        let mut after = before.clone();
        prop_assert_eq!(model::run(&mut after, &plan.ops, device), Ok(()));
        prop_assert!(before.foreign.difference(&after.foreign).all(|key| held.contains(key) && desired.contains_key(key)));
        prop_assert!(plan.conflicts.iter().all(|key| before.foreign.contains(key) && !held.contains(key)));
        for (key, value) in model::reachable(&desired, &plan.conflicts, device) {
            prop_assert_eq!(after.ours.get(&key).and_then(Seen::value), Some(&value), "{}", key);
        }
        let again = diff(&after, &desired, &is_held, device);
        prop_assert_eq!(again.ops, vec![]);
        prop_assert_eq!(again.conflicts, plan.conflicts);
    }

    #[test]
    fn no_route_is_ever_missing_while_it_only_changes(before in observed(0.0), desired in objects()) {
        let device = link("weft0");
        let plan = diff(&before, &desired, &|_| false, device);
        let recreated = matches!(plan.ops.first(), Some(Op::Delete { key: Key::Device, .. }))
            && desired.contains_key(&Key::Device);
        let stays = |key: &Key| matches!(key, Key::Route(..)) && before.ours.contains_key(key) && desired.contains_key(key);
        let mut state = before.clone();
        for op in &plan.ops {
            prop_assert_eq!(model::apply(&mut state, op, device), Ok(()));
            let missing = desired.keys().filter(|key| stays(key)).find(|key| !state.ours.contains_key(key));
            prop_assert!(recreated || missing.is_none(), "{missing:?} is missing after {op:?}");
        }
    }

    #[test]
    fn a_few_keys_are_judged_as_among_all(before in observed(0.1), desired in objects(), keys in some_keys(0.5)) {
        let device = link("weft0");
        let all = diff(&before, &desired, &|_| false, device);
        let keys: BTreeSet<Key> = keys.into_iter().filter(|key| *key != Key::Device).collect();
        let few = diff_keys(&before, &desired, &keys, &|_| false, device).expect("the device is not among them");
        prop_assert!(few.ops.iter().all(|op| keys.contains(op.key())));
        let device_stays = before.ours.get(&Key::Device) == seen(desired.clone()).get(&Key::Device) && !before.foreign.contains(&Key::Device);
        let whole = |plan: &weft_core::diff::Plan| !plan.conflicts.iter().any(|key| matches!(key, Key::Nexthop(_) | Key::Ruleset));
        let table_stays = before.ours.contains_key(&Key::Ruleset) == desired.contains_key(&Key::Ruleset);
        if device_stays && table_stays && whole(&all) {
            let expected: Vec<_> = all.ops.into_iter().filter(|op| keys.contains(op.key())).collect();
            prop_assert_eq!(few.ops, expected);
        }
    }

    #[test]
    fn a_device_that_must_be_created_is_a_matter_for_the_full_diff(before in observed(0.1), desired in objects()) {
        let keys = BTreeSet::from([Key::Device]);
        let few = diff_keys(&before, &desired, &keys, &|_| false, link("weft0"));
        let in_place = match (before.ours.get(&Key::Device), desired.get(&Key::Device)) {
            (Some(Seen::As(Value::Device(have))), Some(Value::Device(want))) => have.can_become(want),
            (None, None) => true,
            _ => false,
        };
        prop_assert_eq!(few.is_some(), in_place);
    }
}

/// What a removed device or table takes along costs no operation of its own.
#[test]
fn the_kernel_drops_what_goes_with_the_device_and_the_table() {
    let all: Objects = world().into_iter().map(|(key, mut values)| (key, values.remove(0))).collect();
    let observed = Observed { ours: seen(all), ..Observed::default() };
    let plan = diff(&observed, &Objects::new(), &|_| false, link("weft0"));
    let deleted: Vec<_> = plan.ops.iter().map(|op| *op.key()).collect();
    let pod = Key::Neighbour(link("wpod0"), [10, 244, 0, 2].into());
    assert_eq!(deleted, [pod, Key::Ruleset, Key::Device]);
}

/// The device vanished while the kernel was read: what was still seen on it is put again, not believed.
#[test]
fn a_reading_that_saw_more_than_the_device_is_not_believed() {
    let mut all: Objects = world().into_iter().map(|(key, mut values)| (key, values.remove(0))).collect();
    let desired = all.clone();
    let device = all.remove(&Key::Device).expect("part of the world");
    let observed = Observed { ours: seen(all), ..Observed::default() };
    let plan = diff(&observed, &desired, &|_| false, link("weft0"));
    let first = Op::Put { key: Key::Device, value: device, old: None, replace: false };
    assert_eq!(plan.ops.first(), Some(&first));
    let lives_on_it = |(key, value): &(&Key, &Value)| key.goes_with_device(Some(value), link("weft0"));
    assert_eq!(plan.ops.len(), desired.iter().filter(lives_on_it).count());
}

/// Puts ascend, deletes descend, and puts come first; only a device in the way goes before.
#[test]
fn makes_before_it_breaks() {
    let all: Objects = world().into_iter().map(|(key, mut values)| (key, values.remove(0))).collect();
    let (some, rest): (Objects, Objects) = all.into_iter().partition(|(key, _)| !matches!(key, Key::Route(..)));
    let observed = Observed { ours: seen(rest), ..Observed::default() };
    let plan = diff(&observed, &some, &|_| false, link("weft0"));
    let puts = plan.ops.iter().take_while(|op| matches!(op, Op::Put { .. })).map(Op::key);
    assert!(puts.clone().is_sorted() && puts.count() == some.len());
    let deletes = plan.ops[some.len()..].iter();
    assert!(deletes.clone().all(|op| matches!(op, Op::Delete { .. })));
    assert!(deletes.map(Op::key).rev().is_sorted());
}
