//! The leader's part, from the request to the end, and back.

use k8s_openapi::serde_json::Value;
use kube::runtime::reflector;
use weft_core::types::NodeName;

use super::*;
use crate::{
    cluster::{Report, Session, tests as testing},
    kubernetes::fake::FakeApi,
    store::MemoryStore,
};

const MAP: &str = "/api/v1/namespaces/weft-system/configmaps/weft-cluster";
const VTEP: &str = "/apis/weft.dev/v1alpha1/vteps/n1";
const CLAIM: &str = "/apis/weft.dev/v1alpha1/podcidrclaims/10.244.0.0-30";

struct Scene {
    api: FakeApi,
    cluster: Cluster,
    work: Work,
    session: Session,
    _task: tokio::task::JoinHandle<Result<(), crate::store::StoreError>>,
}

/// A cluster of n1, whose agent is connected, and what Weft and others have in the API.
async fn scene() -> Scene {
    let api = FakeApi::default();
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "weft-cluster" }, "data": { "epoch": "3" } });
    api.put(MAP, map);
    for (path, kind) in [(VTEP, "Vtep"), (CLAIM, "PodCidrClaim")] {
        let name = path.rsplit('/').next().expect("a name");
        api.put(
            path,
            json!({ "apiVersion": "weft.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": {} }),
        );
    }
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1", "uid": "u" },
        "status": { "conditions": [{ "type": "NetworkUnavailable", "status": "False", "reason": "WeftReady" }] },
    });
    api.put("/api/v1/nodes/n1", node.clone());
    let (nodes, mut writer) = reflector::store();
    let node = serde_json::from_value(node).expect("a Node");
    writer.apply_watcher_event(&kube::runtime::watcher::Event::Apply(node));

    let (cluster, task) = testing::cluster(&MemoryStore::new()).await;
    cluster.join(testing::token(&cluster, "n1").await).await.expect("a good token");
    let session = cluster.connect(testing::connect("n1", 1, 1)).await.expect("a member");
    let maps = Api::namespaced(api.client(), "weft-system");
    let work = Work { client: api.client(), cluster: cluster.clone(), nodes, maps, phase: Phase::Idle, told: None };
    Scene { api, cluster, work, session, _task: task }
}

impl Scene {
    async fn step(&mut self, is_requested: bool) {
        assert!(self.work.step(is_requested).await.is_ok(), "the term has ended");
    }

    async fn cleaned(&self) {
        let report = Report { cleaned_up: true, ..Report::default() };
        self.cluster.report(name("n1"), self.session.id, report, [127, 0, 0, 1].into()).await;
    }

    fn told(&self) -> Option<Uninstall> {
        let map = self.api.object(MAP);
        map["data"][names::UNINSTALL].as_str().map(|text| serde_json::from_str(text).expect("the documented form"))
    }

    fn has_objects(&self) -> (bool, bool, bool) {
        let conditions = &self.api.object("/api/v1/nodes/n1")["status"]["conditions"];
        (self.api.has(VTEP), self.api.has(CLAIM), conditions != &json!([]))
    }
}

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

#[tokio::test]
async fn nodes_come_first_then_objects_then_the_word() {
    let mut scene = scene().await;
    scene.step(false).await;
    assert!(!scene.cluster.is_cleaning_up() && scene.told().is_none(), "nobody asked");

    scene.step(true).await;
    let told = scene.told().expect("it is told");
    assert_eq!((told.state, told.waiting.len(), told.waiting[0].node.as_str()), (UninstallState::Running, 1, "n1"));
    assert!(scene.cluster.is_cleaning_up());
    assert_eq!(scene.has_objects(), (true, true, true), "objects went before the node was clean");
    scene.api.take_requests();
    scene.step(true).await;
    assert_eq!(scene.api.take_requests(), [""; 0], "the same was told twice");

    scene.cleaned().await;
    // The API refuses one of the deletions: the end is not told.
    scene.api.refuse_writes(1, 500);
    scene.step(true).await;
    let told = scene.told().expect("it is told");
    assert_eq!((told.state, told.cleaned.len(), told.waiting.len()), (UninstallState::Running, 1, 1));
    scene.step(true).await;
    assert_eq!(scene.told().map(|told| told.state), Some(UninstallState::Done));
    assert_eq!(scene.has_objects(), (false, false, false));
    assert_eq!(scene.api.object(MAP)["data"]["epoch"], "3", "another's key was changed");
    scene.api.take_requests();
    scene.step(true).await;
    assert_eq!(scene.api.take_requests(), [""; 0]);
}

#[tokio::test]
async fn the_end_that_could_not_be_told_is_told_again() {
    let mut scene = scene().await;
    scene.step(true).await;
    scene.cleaned().await;
    let nothing_left = objects::remove_all(&scene.work.client, &scene.work.nodes).await;
    assert_eq!(nothing_left, []);
    // The watch has not seen yet that the condition is gone: removing it again is the first request, the word the second.
    scene.api.refuse_writes(1, 500);
    scene.step(true).await;
    assert_ne!(scene.work.phase, Phase::Done);
    scene.step(true).await;
    assert_eq!(scene.told().map(|told| told.state), Some(UninstallState::Done));
}

#[tokio::test]
async fn called_off_in_time_the_cluster_goes_on() {
    let mut scene = scene().await;
    scene.step(true).await;
    scene.step(false).await;
    assert!(!scene.cluster.is_cleaning_up());
    assert_eq!(scene.told(), None);
    let closed = (&mut scene.session.closed).await;
    assert_eq!(closed, Ok(Refusal::CalledOff { node: name("n1") }), "its agent would stand still for ever");
    assert_eq!(scene.has_objects(), (true, true, true));
}

#[tokio::test]
async fn called_off_too_late_the_term_ends_and_the_next_reads_anew() {
    let mut scene = scene().await;
    scene.step(true).await;
    scene.cleaned().await;
    scene.step(true).await;
    assert_eq!(scene.work.phase, Phase::Done);
    assert!(matches!(scene.work.step(false).await, Err(Over::Anew)));
    assert_eq!(scene.told(), None, "the next attempt would believe it");
}

#[tokio::test]
async fn a_leader_knows_before_it_serves() {
    let scene = scene().await;
    let asked = || is_requested(&scene.work.client, "weft-system");
    assert!(!asked().await.expect("an answer"));
    let mut map: Value = scene.api.object(MAP);
    map["metadata"]["annotations"] = json!({ "weft.dev/uninstall": "no, thanks" });
    scene.api.put(MAP, map.clone());
    assert!(!asked().await.expect("an answer"));
    map["metadata"]["annotations"] = json!({ "weft.dev/uninstall": "requested" });
    scene.api.put(MAP, map);
    assert!(asked().await.expect("an answer"));
    assert!(!is_requested(&scene.work.client, "elsewhere").await.expect("no object is an answer"));
}
