//! When the condition is written, and what of a Node stays as it is.

use k8s_openapi::serde_json::{self, Value};
use kube::runtime::{reflector, watcher};
use weft_core::standing::{Health, State};

use super::*;
use crate::kubernetes::{
    fake::FakeApi,
    vteps::tests::{kernel_differs, standing},
};

fn path(name: &str) -> String {
    format!("/api/v1/nodes/{name}")
}

/// Nodes with the conditions given, in the API and in a watch's store.
fn nodes(api: &FakeApi, all: &[(&str, Value)]) -> Store<Node> {
    for (name, conditions) in all {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "uid": format!("uid-{name}") },
            "status": { "conditions": conditions },
        });
        api.put(&path(name), node);
    }
    watched(api, all.iter().map(|(name, _)| *name))
}

/// The store as the watch would have it now.
fn watched<'a>(api: &FakeApi, names: impl Iterator<Item = &'a str>) -> Store<Node> {
    let (store, mut writer) = reflector::store();
    for name in names {
        let node = serde_json::from_value(api.object(&path(name))).expect("a Node");
        writer.apply_watcher_event(&watcher::Event::Apply(node));
    }
    store
}

fn condition_of(api: &FakeApi, name: &str) -> Option<(String, String)> {
    let node: Node = serde_json::from_value(api.object(&path(name))).expect("a Node");
    let condition = present(&node)?;
    Some((condition.status.clone(), condition.reason.clone().unwrap_or_default()))
}

fn says(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

fn other() -> Value {
    json!({ "type": "Ready", "status": "True", "reason": "KubeletReady" })
}

fn of_another(status: &str) -> Value {
    json!([other(), { "type": TYPE, "status": status, "reason": "OtherIsUp" }])
}

/// A node whose agent was never seen.
fn without_agent(name: &str) -> NodeStanding {
    let pending = standing(name, State::Pending, "NeverConnected");
    NodeStanding { is_connected: false, has_reported: false, health: None, applied: None, ..pending }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_unavailable_until_it_was_programmed_once_and_never_again() {
    let api = FakeApi::default();
    let store = nodes(&api, &[("n1", json!([other()])), ("n2", of_another("False")), ("n3", of_another("True"))]);
    let mut writer = Writer::new(api.client(), AgentNodes::default());
    // n3 is not even a member.
    let standings = [without_agent("n1"), without_agent("n2")];
    writer.round(&store, &standings).await;
    for name in ["n1", "n2", "n3"] {
        assert_eq!(condition_of(&api, name), says("True", NOT_READY), "{name}");
        assert_eq!(api.object(&path(name))["status"]["conditions"][0], other(), "another condition was touched");
    }
    // The watch has not shown it yet.
    api.take_requests();
    writer.round(&store, &standings).await;
    assert_eq!(api.take_requests(), [""; 0]);

    let names = || ["n1", "n2", "n3"].into_iter();
    let store = watched(&api, names());
    let mut early = standing("n2", State::Degraded, "KernelDiffers");
    early.health = Some(Health { problem: Some(kernel_differs()), ..Health::default() });
    writer.round(&store, &[standing("n1", State::Ready, ""), early]).await;
    assert_eq!(condition_of(&api, "n1"), says("False", READY));
    assert_eq!(condition_of(&api, "n2"), says("True", NOT_READY), "its kernel is not as it should be");

    // Disconnected, and then not even known: what was programmed still is.
    let store = watched(&api, names());
    tokio::time::advance(Duration::from_secs(60)).await;
    api.take_requests();
    writer.round(&store, &[standing("n1", State::Disconnected, "AgentDisconnected")]).await;
    writer.round(&store, &[]).await;
    assert_eq!(api.take_requests(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_repeated_and_a_lost_one_too() {
    let api = FakeApi::default();
    let store = nodes(&api, &[("n1", json!([]))]);
    let mut writer = Writer::new(api.client(), AgentNodes::default());
    let standings = [standing("n1", State::Ready, "")];
    api.refuse_writes(1, 500);
    writer.round(&store, &standings).await;
    assert_eq!(condition_of(&api, "n1"), None);
    writer.round(&store, &standings).await;
    assert_eq!(condition_of(&api, "n1"), says("False", READY));
    // Somebody takes it away at once: the watch shows no condition for longer than an echo takes.
    nodes(&api, &[("n1", json!([]))]);
    tokio::time::advance(ECHO).await;
    writer.round(&store, &standings).await;
    assert_eq!(condition_of(&api, "n1"), says("False", READY));
}

#[tokio::test]
async fn removing_takes_ours_only() {
    let api = FakeApi::default();
    let ours = json!([other(), { "type": TYPE, "status": "False", "reason": READY }]);
    let store = nodes(&api, &[("n1", ours.clone()), ("n2", of_another("True")), ("n3", ours)]);
    api.refuse_writes(1, 500);
    let problems = remove_all(&api.client(), &store).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("Node n"), "{problems:?}");
    assert_eq!(remove_all(&api.client(), &store).await, [""; 0]);
    assert_eq!((condition_of(&api, "n1"), condition_of(&api, "n3")), (None, None));
    assert_eq!(condition_of(&api, "n2"), says("True", "OtherIsUp"));
    assert_eq!(api.object(&path("n1"))["status"]["conditions"], json!([other()]));
}

#[tokio::test]
async fn what_was_said_of_a_node_without_an_agent_is_taken_back() {
    let api = FakeApi::default();
    let ours = json!([other(), { "type": TYPE, "status": "True", "reason": NOT_READY }]);
    let store = nodes(&api, &[("n1", ours.clone()), ("n2", json!([])), ("n3", ours)]);
    let agents = r#"{"nodeSelector":{"has":"agent"}}"#.parse().expect("sound");
    let mut writer = Writer::new(api.client(), agents);
    // n3 was taken in before its labels changed.
    writer.round(&store, &[standing("n3", State::Pending, "NeverConnected")]).await;
    assert_eq!(condition_of(&api, "n1"), None, "no pod would ever be put there");
    assert_eq!(condition_of(&api, "n2"), None);
    assert!(condition_of(&api, "n3").is_some(), "a member is judged, whatever its labels are");
}
