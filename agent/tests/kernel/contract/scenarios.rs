//! What every kernel must do.

use std::{future::Future, time::Duration};

use tokio::sync::mpsc;
use weft_agent::kernel::{Event, Failure, Kernel, KernelError, Scope, UnderlayQuery};
use weft_core::{
    diff::{Op, diff},
    kernel::{Device, Key, Objects, Observed, Route, Seen, Value, Via, seen},
    types::{Family, Mac},
};

use super::{
    hands::Hands,
    objects::{FIRST_ID, all, device, ip, link, network, node, peer, pod, pod_link, route, vxlan},
};

/// How long an event may take: far more than it does, far less than anybody waits.
const SOON: Duration = Duration::from_secs(10);

async fn read(kernel: &mut impl Kernel, wanted: &Objects) -> Observed {
    kernel.read(Scope::All { wanted }).await.expect("a whole reading")
}

/// One pass of the loop: reads, applies the difference, and reads again.
async fn reach(kernel: &mut impl Kernel, wanted: &Objects) -> Observed {
    let observed = read(kernel, wanted).await;
    let plan = diff(&observed, wanted, &|_| false, device());
    let failures = kernel.apply(&plan.ops).await;
    assert!(failures.is_empty(), "{failures:#?}");
    let observed = read(kernel, wanted).await;
    let left = diff(&observed, wanted, &|_| false, device());
    assert!(left.ops.is_empty(), "still to do: {:#?}", left.ops);
    observed
}

fn put(key: Key, value: Value, old: Option<&Value>) -> Op {
    Op::Put { key, value, old: old.cloned().map(Seen::As), replace: false }
}

fn delete(objects: &Objects, key: Key) -> Op {
    Op::Delete { key, old: Seen::As(objects[&key].clone()) }
}

async fn apply(kernel: &mut impl Kernel, ops: &[Op]) -> Vec<Failure> {
    kernel.apply(ops).await
}

fn nexthop_of(objects: &Objects, to: &str) -> u32 {
    let (key, _) = route(to, Via::Unreachable);
    match &objects[&key] {
        Value::Route(Route { via: Via::Nexthop(id), .. }) => *id,
        other => panic!("{to} leads to {other:?}"),
    }
}

pub(crate) async fn everything_put_is_read_back(mut kernel: impl Kernel, _: impl Hands) {
    let wanted = all(40);
    let observed = reach(&mut kernel, &wanted).await;
    assert_eq!(observed.ours, seen(wanted.clone()));
    assert!(observed.foreign.is_empty(), "{:?}", observed.foreign);
    assert!(observed.links.contains(&device()) && observed.links.contains(&link("eth0")), "{:?}", observed.links);
}

pub(crate) async fn few_keys_read_as_all_do(mut kernel: impl Kernel, _: impl Hands) {
    let wanted = all(6);
    reach(&mut kernel, &wanted).await;
    let keys: Vec<Key> = wanted.keys().copied().collect();
    let observed = kernel.read(Scope::Keys(&keys)).await.expect("a reading of keys");
    assert_eq!(observed.ours, seen(wanted.clone()));
    let absent: Vec<Key> = peer(99).into_keys().collect();
    let observed = kernel.read(Scope::Keys(&absent)).await.expect("a reading of absent keys");
    assert_eq!((observed.ours, observed.foreign), Default::default());
}

/// A route changes between tunnel and gateway, a peer moves, an MTU shrinks: one message each, nothing lost meanwhile.
pub(crate) async fn objects_change_in_place(mut kernel: impl Kernel, _: impl Hands) {
    let mut wanted = all(4);
    reach(&mut kernel, &wanted).await;
    let other = Mac::local([0, 0x57, 7, 7, 7, 7]);
    for value in wanted.values_mut() {
        *value = match &*value {
            Value::Fdb(_) => Value::Fdb(ip("10.9.9.9")),
            Value::Neighbour(_) => Value::Neighbour(other),
            Value::Nexthop(gateway) if gateway.is_ipv4() => Value::Nexthop(ip("10.244.77.0")),
            Value::Nexthop(_) => Value::Nexthop(ip("fe80::77")),
            Value::Route(Route { via: Via::Nexthop(id), src: Some(src), .. })
                if id.is_multiple_of(2) && src.is_ipv4() =>
            {
                Value::Route(Route { via: Via::Gateway(ip("10.0.0.9"), link("eth0")), mtu: Some(1400), src: None })
            }
            Value::Route(Route { via: Via::Nexthop(_), src: Some(src), .. }) if src.is_ipv6() => {
                Value::Route(Route { via: Via::Gateway(ip("fd00:a::9"), link("eth0")), mtu: Some(1400), src: None })
            }
            Value::Route(Route { via: Via::Gateway(gateway, _), .. }) => {
                let id = if gateway.is_ipv4() { nexthop_id(Family::V4) } else { nexthop_id(Family::V6) };
                Value::Route(Route { via: Via::Nexthop(id), mtu: None, src: None })
            }
            other => other.clone(),
        };
    }
    let observed = reach(&mut kernel, &wanted).await;
    assert_eq!(observed.ours, seen(wanted.clone()));
}

/// An id that a peer of these scenarios has.
fn nexthop_id(family: Family) -> u32 {
    let first = FIRST_ID + 4;
    if family == Family::V4 { first } else { first + 1 }
}

pub(crate) async fn the_device_changes_in_place(mut kernel: impl Kernel, _: impl Hands) {
    let mut wanted = all(3);
    reach(&mut kernel, &wanted).await;
    let changed = Device { mac: Mac::local([0, 0x57, 0, 0, 0, 9]), mtu: 1300, local: ip("10.0.0.77"), ..vxlan() };
    wanted.insert(Key::Device, Value::Device(changed));
    let observed = read(&mut kernel, &wanted).await;
    let plan = diff(&observed, &wanted, &|_| false, device());
    assert_eq!(plan.ops.len(), 1, "{:#?}", plan.ops);
    let failures = apply(&mut kernel, &plan.ops).await;
    assert!(failures.is_empty(), "{failures:#?}");
    // With its MAC a device loses its neighbours, also permanent ones; with its MTU IPv6 routes change theirs.
    let observed = read(&mut kernel, &wanted).await;
    for (key, value) in &wanted {
        let kept = match (key, value) {
            (Key::Neighbour(link, _), _) if *link == device() => None,
            (Key::Route(to, _), Value::Route(route)) if to.is_ipv6() && route.mtu == Some(1350) => {
                Some(Value::Route(Route { mtu: Some(1300), ..*route }))
            }
            _ => Some(value.clone()),
        };
        assert_eq!(observed.ours.get(key).and_then(Seen::value), kept.as_ref(), "{key}");
    }
    reach(&mut kernel, &wanted).await;
}

/// With a VTEP address IPv4 routes go that name it as source; IPv6 ones stay, some without it.
pub(crate) async fn an_address_takes_routes_along(mut kernel: impl Kernel, _: impl Hands) {
    let wanted = all(3);
    reach(&mut kernel, &wanted).await;
    let vteps = ["10.244.1.0", "fd00:244:0:1::"].map(|text| Key::Address(ip(text)));
    let failures = apply(&mut kernel, &vteps.map(|key| delete(&wanted, key))).await;
    assert!(failures.is_empty(), "{failures:#?}");
    let observed = read(&mut kernel, &wanted).await;
    for (key, value) in &wanted {
        let (Key::Route(to, _), Value::Route(route)) = (key, value) else { continue };
        let kept = match (route.src.is_some(), to.is_ipv4(), route.via) {
            (false, ..) | (true, false, Via::Nexthop(_)) => Some(value.clone()),
            (true, false, _) => Some(Value::Route(Route { src: None, ..*route })),
            (true, true, _) => None,
        };
        assert_eq!(observed.ours.get(key).and_then(Seen::value), kept.as_ref(), "{key}");
    }
    reach(&mut kernel, &wanted).await;
}

pub(crate) async fn deletion_leaves_nothing(mut kernel: impl Kernel, _: impl Hands) {
    let wanted = all(5);
    reach(&mut kernel, &wanted).await;
    let nothing = Objects::new();
    let observed = read(&mut kernel, &nothing).await;
    let mut ops = diff(&observed, &nothing, &|_| false, device()).ops;
    ops.extend(
        pod()
            .into_iter()
            .filter(|(key, _)| matches!(key, Key::Neighbour(..)))
            .map(|(key, value)| Op::Delete { key, old: Seen::As(value) }),
    );
    let failures = apply(&mut kernel, &ops).await;
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(read(&mut kernel, &nothing).await.ours, seen(nothing.clone()));
    // What is not there cannot be deleted again, and that is no failure.
    let again: Vec<Op> = ops.into_iter().filter(|op| *op.key() != Key::Device).collect();
    let failures = apply(&mut kernel, &again).await;
    assert!(failures.is_empty(), "{failures:#?}");
}

pub(crate) async fn deleting_the_device_takes_what_is_on_it(mut kernel: impl Kernel, _: impl Hands) {
    let wanted = all(5);
    reach(&mut kernel, &wanted).await;
    let failures = apply(&mut kernel, &[delete(&wanted, Key::Device)]).await;
    assert!(failures.is_empty(), "{failures:#?}");
    let observed = read(&mut kernel, &wanted).await;
    for (key, value) in &wanted {
        let gone = key.goes_with_device(Some(value), device());
        assert_eq!(observed.ours.contains_key(key), !gone, "{key}");
    }
    assert!(!observed.links.contains(&device()));
    reach(&mut kernel, &wanted).await;
}

pub(crate) async fn a_device_down_loses_what_it_carries(mut kernel: impl Kernel, _: impl Hands) {
    let wanted = all(3);
    reach(&mut kernel, &wanted).await;
    let down = Value::Device(Device { up: false, ..vxlan() });
    let failures = apply(&mut kernel, &[put(Key::Device, down.clone(), wanted.get(&Key::Device))]).await;
    assert!(failures.is_empty(), "{failures:#?}");
    let observed = read(&mut kernel, &wanted).await;
    assert_eq!(observed.ours.get(&Key::Device), Some(&Seen::As(down)));
    let (to_peer, _) = route("10.244.2.0/24", Via::Unreachable);
    assert!(!observed.ours.contains_key(&to_peer), "the route stayed");
    assert!(!observed.ours.keys().any(|key| matches!(key, Key::Nexthop(_))), "nexthops stayed");
    reach(&mut kernel, &wanted).await;
}

pub(crate) async fn a_nexthop_takes_its_routes_along(mut kernel: impl Kernel, _: impl Hands) {
    let wanted = all(3);
    reach(&mut kernel, &wanted).await;
    for to in ["10.244.2.0/24", "fd00:244:0:2::/64"] {
        let id = Key::Nexthop(nexthop_of(&wanted, to));
        let failures = apply(&mut kernel, &[delete(&wanted, id)]).await;
        assert!(failures.is_empty(), "{failures:#?}");
        let (key, _) = route(to, Via::Unreachable);
        let observed = read(&mut kernel, &wanted).await;
        assert!(!observed.ours.contains_key(&key), "{key} stayed");
    }
    reach(&mut kernel, &wanted).await;
}

/// A static route in our place is named, survives our attempt, and its going gives us the place.
pub(crate) async fn others_places_are_left_alone(mut kernel: impl Kernel, mut hands: impl Hands) {
    let wanted = all(2);
    let places = ["10.244.2.0/24", "fd00:244:0:2::/64"];
    for to in places {
        hands.add_route(network(to)).await;
    }
    for to in places {
        let (key, _) = route(to, Via::Unreachable);
        let observed = read(&mut kernel, &wanted).await;
        assert!(observed.foreign.contains(&key), "{to} is not foreign: {:?}", observed.foreign);
        let mut ops: Vec<Op> = diff(&observed, &wanted, &|_| false, device()).ops;
        assert!(ops.iter().all(|op| *op.key() != key), "{to} is to be touched");
        // Who tries nevertheless is refused, silently: the reading tells.
        ops.push(put(key, wanted[&key].clone(), None));
        let failures = apply(&mut kernel, &ops).await;
        assert!(failures.is_empty(), "{failures:#?}");
        for scope in [Scope::All { wanted: &wanted }, Scope::Keys(&[key])] {
            let observed = kernel.read(scope).await.expect("a reading");
            assert!(observed.foreign.contains(&key) && !observed.ours.contains_key(&key), "{to} in {scope:?}");
        }
    }
}

pub(crate) async fn an_altered_route_is_taken_back(mut kernel: impl Kernel, mut hands: impl Hands) {
    let wanted = all(2);
    reach(&mut kernel, &wanted).await;
    for to in ["10.244.2.0/24", "fd00:244:0:2::/64"] {
        hands.take_route(network(to)).await;
        let (key, _) = route(to, Via::Unreachable);
        let observed = read(&mut kernel, &wanted).await;
        assert!(observed.foreign.contains(&key) && !observed.ours.contains_key(&key), "{to}: {:?}", observed.foreign);
        let plan = diff(&observed, &wanted, &|_| true, device());
        let failures = apply(&mut kernel, &plan.ops).await;
        assert!(failures.is_empty(), "{failures:#?}");
        let observed = read(&mut kernel, &wanted).await;
        assert_eq!(observed.ours, seen(wanted.clone()));
        assert!(observed.foreign.is_empty(), "{:?}", observed.foreign);
    }
}

pub(crate) async fn one_failure_does_not_stop_the_rest(mut kernel: impl Kernel, _: impl Hands) {
    let wanted = all(2);
    reach(&mut kernel, &node()).await;
    let (lost, value) = route("10.244.66.0/24", Via::Nexthop(FIRST_ID + 999));
    let mut ops = vec![put(lost, value, None)];
    ops.extend(
        wanted.iter().filter(|(key, _)| !node().contains_key(key)).map(|(key, value)| put(*key, value.clone(), None)),
    );
    let failures = apply(&mut kernel, &ops).await;
    let [Failure { key, error: KernelError::Refused { message, .. } }] = &failures[..] else {
        panic!("one refusal was expected: {failures:#?}")
    };
    assert_eq!(*key, lost);
    assert!(message.contains("Nexthop id does not exist"), "{message}");
    assert_eq!(read(&mut kernel, &wanted).await.ours, seen(wanted.clone()));
}

/// Waits until an event says that `key` may be otherwise; others do not matter.
async fn told_of(events: &mut mpsc::Receiver<Event>, key: Key) {
    let about = |event: &Event| match event {
        Event::Object(of, _) => *of == key,
        Event::Look | Event::Overflow => true,
        Event::Underlay | Event::PodLink(_) => false,
    };
    let told = async {
        while let Some(event) = events.recv().await {
            if about(&event) {
                return;
            }
        }
        panic!("events ended");
    };
    within(told, &key.to_string()).await;
}

async fn within<T>(what: impl Future<Output = T>, of: &str) -> T {
    tokio::time::timeout(SOON, what).await.unwrap_or_else(|_| panic!("no event of {of}"))
}

pub(crate) async fn meddling_is_reported(mut kernel: impl Kernel, mut hands: impl Hands) {
    let wanted = all(3);
    let mut events = kernel.events().expect("events");
    reach(&mut kernel, &wanted).await;
    let victims: Vec<Key> =
        wanted.keys().filter(|key| !matches!(key, Key::Sysctl(_) | Key::Ruleset)).rev().copied().collect();
    for key in victims {
        // What our own changes brought is not what is waited for.
        quiet(&mut events).await;
        hands.meddle(&delete(&wanted, key)).await;
        told_of(&mut events, key).await;
        reach(&mut kernel, &wanted).await;
    }
    quiet(&mut events).await;
    hands.remove_pod_link().await;
    told(&mut events, &Event::PodLink(pod_link())).await;
    quiet(&mut events).await;
    hands.add_underlay_address().await;
    told(&mut events, &Event::Underlay).await;
}

/// Waits for this event.
async fn told(events: &mut mpsc::Receiver<Event>, wanted: &Event) {
    let found = async { while events.recv().await.expect("events go on") != *wanted {} };
    within(found, &format!("{wanted:?}")).await;
}

/// Waits until nothing is reported any more.
async fn quiet(events: &mut mpsc::Receiver<Event>) {
    while tokio::time::timeout(Duration::from_millis(50), events.recv()).await.is_ok_and(|event| event.is_some()) {}
}

pub(crate) async fn the_underlay_is_found(mut kernel: impl Kernel, _: impl Hands) {
    reach(&mut kernel, &all(2)).await;
    let query = |outer| UnderlayQuery { interface: None, addresses: Vec::new(), in_use: None, controller: None, outer };
    for outer in Family::ALL {
        let underlay = kernel.underlay(&query(outer)).await.expect("an underlay");
        assert_eq!((underlay.link, underlay.mtu), (link("eth0"), 1500));
        // No advertisement has come yet, and the first one must count.
        assert_eq!(underlay.advertised_links, [link("eth0")].into());
        assert_eq!(underlay.addresses.v4.map(|a| a.to_string()).as_deref(), Some("10.0.0.1/24"));
        assert_eq!(underlay.addresses.v6.map(|a| a.to_string()).as_deref(), Some("fd00:a::1/64"));
    }
    let wrong = UnderlayQuery { interface: Some(device()), ..query(Family::V4) };
    let error = kernel.underlay(&wrong).await.expect_err("the tunnel cannot carry itself");
    assert!(matches!(error, KernelError::NoUnderlay(_)), "{error}");
}
