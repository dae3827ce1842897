//! The leader's part, from the request to the end, and back.

use k8s_openapi::serde_json::{self, Value, json};
use kube::runtime::reflector;
use weft_api::{Uninstall, UninstallRequest};
use weft_core::types::NodeName;

use super::*;
use crate::{
    cluster::{Cluster, Refusal, Report, Session, tests as testing},
    kubernetes::{events::Events, fake::FakeApi},
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
    let metadata = json!({ "name": "weft-cluster", "uid": "7-7" });
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "epoch": "3" } });
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
    // No event is sent in these tests: their sender is another one's.
    let events = Events::start(FakeApi::default().client(), "test".to_owned());
    let (client, namespace, cluster_) = (api.client(), "weft-system".to_owned(), cluster.clone());
    let work = Work { client, namespace, cluster: cluster_, nodes, maps, events, phase: Phase::Idle, told: None };
    Scene { api, cluster, work, session, _task: task }
}

impl Scene {
    async fn step(&mut self, is_requested: bool) {
        let verdict = if is_requested { Verdict::Yes } else { Verdict::No };
        assert!(self.work.follow(verdict).await.is_ok(), "the term has ended");
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
    assert!(matches!(scene.work.follow(Verdict::No).await, Err(Over::Anew)));
    assert_eq!(scene.told(), None, "the next attempt would believe it");
}

/// A record of Helm's.
fn record(api: &FakeApi, revision: u32, status: &str) {
    let name = format!("sh.helm.release.v1.weft.v{revision}");
    let metadata = json!({ "name": name, "labels": { "status": status } });
    let object = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata });
    api.put(&format!("/api/v1/namespaces/weft-system/secrets/{name}"), object);
}

fn ask(api: &FakeApi, value: &str) -> ConfigMap {
    let mut map: Value = api.object(MAP);
    map["metadata"]["annotations"] = json!({ "weft.dev/uninstall": value });
    api.put(MAP, map.clone());
    serde_json::from_value(map).expect("a ConfigMap")
}

fn hook(beat: u64) -> String {
    let request = UninstallRequest { release: "weft".to_owned(), revision: 1, by: "a".to_owned(), beat };
    serde_json::to_string(&request).expect("plain data")
}

#[tokio::test(start_paused = true)]
async fn a_hook_counts_only_while_it_renews_and_helm_uninstalls() {
    let api = scene().await.api;
    let mut decision = Decision::new(&api.client(), "weft-system", Phase::Idle);
    record(&api, 1, "deployed");
    decision.see(&ask(&api, &hook(1)));
    assert_eq!(decision.verdict(Phase::Idle).await, Verdict::No, "it was there before us");
    decision.see(&ask(&api, &hook(2)));
    let Verdict::Refused(why) = decision.verdict(Phase::Idle).await else {
        panic!("a Job that somebody applied counts")
    };
    assert!(why.contains("release weft is deployed") && why.contains("weft uninstall --kubernetes"), "{why}");

    record(&api, 2, "uninstalling");
    tokio::time::advance(RECORDS).await;
    decision.see(&ask(&api, &hook(3)));
    assert_eq!(decision.verdict(Phase::Idle).await, Verdict::Yes);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(decision.verdict(Phase::Cleaning).await, Verdict::No, "the hook is gone, and nodes stay cut off");
    // What is done stays done, also when the records are gone, but not when the release is used again.
    assert_eq!(decision.verdict(Phase::Done).await, Verdict::Yes);
    record(&api, 3, "deployed");
    tokio::time::advance(RECORDS).await;
    assert_eq!(decision.verdict(Phase::Done).await, Verdict::No);
}

#[tokio::test]
async fn what_an_earlier_versions_job_writes_is_refused_and_said() {
    let mut scene = scene().await;
    let mut decision = Decision::new(&scene.api.client(), "weft-system", Phase::Idle);
    decision.see(&ask(&scene.api, "requested"));
    let verdict = decision.verdict(Phase::Idle).await;
    assert!(matches!(&verdict, Verdict::Refused(why) if why.contains("requested")), "{verdict:?}");
    assert!(scene.work.follow(verdict).await.is_ok());
    assert!(!scene.cluster.is_cleaning_up(), "a leftover Job took the network away");
    let told = scene.told().expect("whoever waits for an answer");
    assert_eq!(told.state, UninstallState::Refused);
    assert_eq!(scene.has_objects(), (true, true, true));
    // The request is gone, and so is the answer.
    scene.step(false).await;
    assert_eq!(scene.told(), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_knows_before_it_serves() {
    let scene = scene().await;
    let api = &scene.api;
    let found = || async { inherited(&api.client(), "weft-system").await.expect("an answer") };
    assert_eq!(found().await, Phase::Idle);
    ask(api, "requested");
    assert_eq!(found().await, Phase::Idle);
    ask(api, "7-7");
    assert_eq!(found().await, Phase::Cleaning, "an operator wants it until he says otherwise");
    assert_eq!(inherited(&api.client(), "elsewhere").await.expect("no object is an answer"), Phase::Idle);

    ask(api, &hook(1));
    record(api, 1, "uninstalling");
    assert_eq!(found().await, Phase::Idle, "our predecessor had not begun");
    let tell = |state: &str| {
        let mut map: Value = api.object(MAP);
        map["data"][names::UNINSTALL] = json!({ "state": state }).to_string().into();
        api.put(MAP, map);
    };
    tell("running");
    assert_eq!(found().await, Phase::Idle, "nobody renews it");
    let renewing = async {
        sleep(Duration::from_secs(3)).await;
        ask(api, &hook(2));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        phase = found() => assert_eq!(phase, Phase::Cleaning),
        () = renewing => unreachable!("it never ends"),
    }
    tell("done");
    assert_eq!(found().await, Phase::Done);
    record(api, 2, "deployed");
    assert_eq!(found().await, Phase::Idle, "the release is used again");
}
