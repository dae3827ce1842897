//! What is written into Vteps, and how often the API server is asked for it.

use k8s_openapi::serde_json::Value;
use weft_core::standing::{Health, Problem, Reason, State};
use weft_core::types::{PerFamily, Revision, UnixMs};

use super::*;
use crate::{cluster::Probed, kubernetes::fake::FakeApi};

fn path(name: &str) -> String {
    format!("/apis/weft.dev/v1alpha1/vteps/{name}")
}

/// A Vtep as the store makes it.
fn put(api: &FakeApi, name: &str) {
    let object = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "Vtep", "metadata": { "name": name, "generation": 1 },
        "spec": { "nodeUid": "u", "incarnation": 1, "mac": "02:00:00:00:00:01" },
    });
    api.put(&path(name), object);
}

pub(in crate::kubernetes) fn standing(name: &str, state: State, reason: &str) -> NodeStanding {
    let is_connected = state != State::Disconnected;
    NodeStanding {
        problem: None,
        name: name.parse().expect("a name"),
        pod_cidrs: PerFamily { v4: Some("10.244.1.0/24".parse().expect("a CIDR")), v6: None },
        underlay: PerFamily { v4: Some("192.0.2.1/24".parse().expect("an address")), v6: None },
        state,
        reason: (!reason.is_empty()).then(|| Reason::from(reason)),
        message: if reason.is_empty() { String::new() } else { format!("because of {reason}") },
        since: Some(UnixMs(1_700_000_000_123)),
        is_connected,
        has_reported: true,
        probed: Probed::Answers,
        paths: Vec::new(),
        applied: is_connected.then(|| (Revision::new(7, 3), UnixMs(1_700_000_001_000))),
        lag: 0,
        health: is_connected.then(Health::default),
    }
}

pub(in crate::kubernetes) fn kernel_differs() -> Problem {
    Problem { reason: Reason::KernelDiffers, message: "a route".to_owned() }
}

fn ready(name: &str) -> NodeStanding {
    standing(name, State::Ready, "")
}

fn lost(name: &str) -> NodeStanding {
    standing(name, State::Disconnected, "AgentDisconnected")
}

async fn writer(api: &FakeApi) -> Writer {
    let mut writer = Writer::new(api.client());
    writer.read().await;
    api.take_requests();
    writer
}

/// At the end of the time in which agents come back.
async fn settled(api: &FakeApi) -> Writer {
    let mut writer = writer(api).await;
    writer.returned_at = Instant::now();
    writer
}

fn status(api: &FakeApi, name: &str) -> Value {
    api.object(&path(name))["status"].clone()
}

fn transition(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().expect("conditions");
    let of = conditions.iter().find(|condition| condition["type"] == kind).expect("this one");
    of["lastTransitionTime"].as_str().expect("a time").to_owned()
}

#[tokio::test(start_paused = true)]
async fn what_is_written_once_is_not_written_again() {
    let api = FakeApi::default();
    put(&api, "n1");
    let mut writer = writer(&api).await;
    writer.round(&[ready("n1")]).await;
    let written = status(&api, "n1");
    assert_eq!((&written["state"], &written["since"]), (&json!("Ready"), &json!("2023-11-14T22:13:20Z")));
    assert_eq!(written["appliedRevision"], "7.3");
    assert_eq!(api.take_requests(), [format!("PATCH {}/status", path("n1"))]);

    tokio::time::advance(Duration::from_secs(60)).await;
    writer.round(&[ready("n1")]).await;
    assert_eq!(api.take_requests(), [""; 0], "nothing changed");
    // The same again as another leader reads it from the API.
    let mut successor = settled(&api).await;
    let later = NodeStanding { since: Some(UnixMs(1_800_000_000_000)), ..ready("n1") };
    successor.round(&[later]).await;
    assert_eq!(api.take_requests(), [""; 0], "a change of leaders is no change of the node");
}

#[tokio::test(start_paused = true)]
async fn times_stay_with_what_did_not_change() {
    let api = FakeApi::default();
    put(&api, "n1");
    let mut writer = settled(&api).await;
    writer.round(&[ready("n1")]).await;
    let mut object = api.object(&path("n1"));
    for condition in object["status"]["conditions"].as_array_mut().expect("conditions") {
        condition["lastTransitionTime"] = "2020-01-01T00:00:00Z".into();
    }
    api.put(&path("n1"), object);
    let mut writer = settled(&api).await;
    writer.round(&[lost("n1")]).await;
    let after = status(&api, "n1");
    assert_eq!((&after["state"], &after["reason"]), (&json!("Disconnected"), &json!("AgentDisconnected")));
    assert_ne!(transition(&after, "Ready"), "2020-01-01T00:00:00Z");
    assert_ne!(transition(&after, "Connected"), "2020-01-01T00:00:00Z");
    assert_eq!(transition(&after, "Allocated"), "2020-01-01T00:00:00Z");
    // Without its agent the kernel holds what it held.
    assert_eq!(after["appliedRevision"], "7.3");
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_calls_nobody_disconnected_before_agents_had_time_to_come_back() {
    let api = FakeApi::default();
    put(&api, "n1");
    put(&api, "n2");
    settled(&api).await.round(&[ready("n1"), ready("n2")]).await;
    let mut successor = writer(&api).await;
    let next = successor.round(&[lost("n1"), lost("n2")]).await;
    assert_eq!(api.take_requests(), [""; 0]);
    assert!(next.is_some(), "it would never look again");
    // A fault is told at once.
    successor.round(&[standing("n1", State::Degraded, "KernelDiffers"), lost("n2")]).await;
    assert_eq!(status(&api, "n1")["state"], "Degraded");
    tokio::time::advance(RETURN).await;
    successor.round(&[ready("n1"), lost("n2")]).await;
    assert_eq!((&status(&api, "n1")["state"], &status(&api, "n2")["state"]), (&json!("Ready"), &json!("Disconnected")));
}

#[tokio::test(start_paused = true)]
async fn a_flap_of_all_nodes_is_no_storm() {
    // The budget itself is measured with 5,000; here each request is made.
    const NODES: usize = 1000;
    let api = FakeApi::default();
    let names: Vec<String> = (0..NODES).map(|n| format!("n{n:04}")).collect();
    names.iter().for_each(|name| put(&api, name));
    let mut writer = writer(&api).await;
    assert_eq!(writer.known.len(), NODES, "pages got lost");
    writer.returned_at = Instant::now();
    let (good, bad): (Vec<_>, Vec<_>) = names.iter().map(|name| (ready(name), lost(name))).unzip();
    let (mut seconds, mut total) = (0, 0);
    while total < NODES {
        writer.round(&good).await;
        let asked = api.take_requests().len();
        assert!(asked <= 101, "{asked} requests in one second");
        (seconds, total) = (seconds + 1, total + asked);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    writer.round(&good).await;
    assert_eq!((total, api.take_requests().len()), (NODES, 0), "one each");
    assert!(names.iter().all(|name| status(&api, name)["state"] == "Ready"));
    assert!(seconds <= 20, "{seconds} s");

    // What flaps back before its turn is never written.
    writer.round(&bad).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let first = api.take_requests().len();
    for _ in 0..10 {
        writer.round(&good).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let back = api.take_requests().len();
    assert!(first <= 101 && back == first, "{first} went bad, {back} were written back");

    // Everybody acknowledges a change: figures only, at half the rate at most.
    let acknowledged: Vec<_> = good
        .iter()
        .map(|one| NodeStanding { applied: Some((Revision::new(7, 4), UnixMs(1_700_000_002_000))), ..one.clone() })
        .collect();
    for _ in 0..20 {
        writer.round(&acknowledged).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let figures = api.take_requests().len();
    assert!(figures <= 1000, "{figures} requests in 20 s for figures alone");
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_later_and_a_vtep_that_is_gone_is_let_go() {
    let api = FakeApi::default();
    put(&api, "n1");
    let mut writer = settled(&api).await;
    api.refuse_writes(2, 500);
    let retry = writer.round(&[ready("n1"), ready("gone")]).await.expect("it is to be tried again");
    assert!(retry > Instant::now());
    writer.round(&[ready("n1"), ready("gone")]).await;
    assert_eq!(api.take_requests().len(), 2, "it was tried again at once");
    tokio::time::advance(Duration::from_secs(2)).await;
    writer.round(&[ready("n1"), ready("gone")]).await;
    assert_eq!(status(&api, "n1")["state"], "Ready");
    assert!(!api.has(&path("gone")), "a status makes no object");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_departed_and_a_spoiled_vtep_is_left_alone() {
    let api = FakeApi::default();
    for name in ["n1", "n2", "marked"] {
        put(&api, name);
    }
    settled(&api).await.round(&[ready("n1"), ready("n2"), ready("marked")]).await;
    let mut marked = api.object(&path("marked"));
    marked["spec"]["departed"] = true.into();
    api.put(&path("marked"), marked);
    let mut spoiled = api.object(&path("n2"));
    spoiled["spec"]["mac"] = json!({ "not": "a MAC" });
    api.put(&path("n2"), spoiled);

    // n2 cannot be read by the store, so the cluster does not know it; that is no departure.
    let mut writer = settled(&api).await;
    writer.round(&[ready("n1")]).await;
    assert_eq!(status(&api, "marked")["state"], "Departed");
    assert_eq!(status(&api, "n2")["state"], "Ready");
    api.take_requests();
    writer.round(&[]).await;
    assert_eq!(
        (&status(&api, "n1")["state"], &status(&api, "n1")["appliedRevision"]),
        (&json!("Departed"), &json!("7.3"))
    );
    api.take_requests();
    writer.round(&[]).await;
    assert_eq!(api.take_requests(), [""; 0]);
    // The same name comes back.
    writer.round(&[ready("n1")]).await;
    assert_eq!(status(&api, "n1")["state"], "Ready");
}

#[tokio::test(start_paused = true)]
async fn a_hands_edit_is_put_right_when_all_is_read_again() {
    let api = FakeApi::default();
    put(&api, "n1");
    let mut writer = settled(&api).await;
    writer.round(&[ready("n1")]).await;
    let mut edited = api.object(&path("n1"));
    edited["status"] = json!({ "state": "Unreachable", "conditions": "nonsense" });
    api.put(&path("n1"), edited);
    tokio::time::advance(Duration::from_secs(5)).await;
    writer.read().await;
    writer.round(&[ready("n1")]).await;
    assert_eq!(status(&api, "n1")["state"], "Ready");
}
