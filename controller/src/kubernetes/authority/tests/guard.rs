//! What the leader finds when something has replaced its objects, and what it does then.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::time::timeout;

use super::{super::guard::Guard, *};
use crate::kubernetes::events::Events;

const CLUSTER_PATH: &str = "/api/v1/namespaces/weft/configmaps/weft-cluster";
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7887);
const EVENTS_PATH: &str = "/apis/events.k8s.io/v1/namespaces/weft/events";

/// A leader that has looked once, over objects that are all well; and its authority.
async fn leading(api: &FakeApi, fence: Fence) -> (Guard, Arc<Authority>) {
    let authority = Arc::new(made(api).await);
    let data = json!({"epoch": "7", "settings": "{}", "allocation": "{}", "uninstall": "{}"});
    api.put(CLUSTER_PATH, json!({"metadata": {"name": "weft-cluster"}, "data": data}));
    let events = Events::start(api.client(), "test".to_owned());
    let mut guard = Guard::new(api.client(), objects(api), Arc::clone(&authority), ADDRESS, fence, events);
    guard.look().await;
    (guard, authority)
}

/// Waits for the Event of this reason about this object.
async fn told(api: &FakeApi, reason: &str, kind: &str, name: &str) -> Value {
    let is_it = |event: &Value| {
        event["reason"] == reason && event["regarding"]["kind"] == kind && event["regarding"]["name"] == name
    };
    let waiting = async {
        loop {
            if let Some(event) = api.below(EVENTS_PATH).into_iter().find(is_it) {
                return event;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), waiting).await.unwrap_or_else(|_| panic!("no Event {reason} about {kind} {name}"))
}

#[tokio::test]
async fn what_was_emptied_is_filled_with_what_the_leader_serves_with() {
    let api = chart();
    let (mut guard, authority) = leading(&api, Fence::held()).await;
    let (secret, map) = (api.object(SECRET_PATH), api.object(MAP_PATH));
    api.put(SECRET_PATH, empty("Secret"));
    api.put(MAP_PATH, empty("ConfigMap"));
    api.put(CLUSTER_PATH, json!({"metadata": {"name": "weft-cluster", "annotations": {"weft.dev/uninstall": "u"}}}));
    guard.look().await;

    assert_eq!(api.object(SECRET_PATH)["data"], secret["data"]);
    assert_eq!(api.object(MAP_PATH)["data"]["ca.crt"], map["data"]["ca.crt"]);
    assert_eq!(api.object(MAP_PATH)["data"]["controllers"], "192.0.2.1:7887\n");
    assert_eq!(found(&api).await.fingerprint(), authority.fingerprint());
    let cluster = api.object(CLUSTER_PATH);
    assert_eq!(
        cluster["data"],
        json!({"epoch": "7", "settings": "{}", "allocation": "{}"}),
        "uninstallations write theirs"
    );
    assert_eq!(cluster["metadata"]["annotations"]["weft.dev/uninstall"], "u");
    for (kind, name) in [("Secret", "weft-ca"), ("ConfigMap", "weft-ca"), ("ConfigMap", "weft-cluster")] {
        let note = told(&api, "Refilled", kind, name).await["note"].to_string();
        assert!(note.contains("helm upgrade --force"), "{note}");
    }
}

#[tokio::test]
async fn half_of_the_secret_is_completed() {
    let api = chart();
    let (mut guard, _) = leading(&api, Fence::held()).await;
    let whole = api.object(SECRET_PATH)["data"].clone();
    for key in ["ca.crt", "ca.key"] {
        let mut half = empty("Secret");
        half["data"][key] = whole[key].clone();
        api.put(SECRET_PATH, half);
        guard.look().await;
        assert_eq!(api.object(SECRET_PATH)["data"], whole);
    }
}

#[tokio::test]
async fn a_change_between_look_and_write_is_looked_at_again() {
    let (api, other) = (chart(), chart());
    let (mut guard, _) = leading(&api, Fence::held()).await;
    made(&other).await;
    api.put(SECRET_PATH, empty("Secret"));
    let foreign = other.object(SECRET_PATH);
    api.before_next_write(move |api| api.put(SECRET_PATH, foreign));
    guard.look().await;
    assert_eq!(api.object(SECRET_PATH)["data"], other.object(SECRET_PATH)["data"]);
    told(&api, "AuthorityDiffers", "Secret", "weft-ca").await;
}

#[tokio::test]
async fn another_authority_is_named_at_each_object_and_stays() {
    let (api, other) = (chart(), chart());
    let (mut guard, _) = leading(&api, Fence::held()).await;
    let others = made(&other).await;
    objects(&other).refill_map(&others).await.expect("published");
    api.put(SECRET_PATH, other.object(SECRET_PATH));
    api.put(MAP_PATH, other.object(MAP_PATH));
    guard.look().await;
    assert_eq!(api.object(SECRET_PATH)["data"], other.object(SECRET_PATH)["data"]);
    for (path, kind) in [(SECRET_PATH, "Secret"), (MAP_PATH, "ConfigMap")] {
        assert_eq!(api.object(path)["data"]["ca.crt"], other.object(path)["data"]["ca.crt"]);
        told(&api, "AuthorityDiffers", kind, "weft-ca").await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_its_term_a_leader_fills_nothing() {
    let api = chart();
    let (guard, _) = leading(&api, Fence::default()).await;
    api.put(SECRET_PATH, empty("Secret"));
    let ended = timeout(Duration::from_secs(60), guard.run()).await;
    assert!(ended.is_err(), "it waits for its end");
    assert_eq!(api.object(SECRET_PATH)["data"], Value::Null);
}
