//! A whole controller over Nodes that come and go.

use std::{
    process::{Child, Command},
    time::Duration,
};

use k8s_openapi::{
    api::{core::v1::Node, events::v1::Event},
    serde_json::json,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use tokio::time::{Instant, sleep};
use weft_api::{PodCidrClaim, Vtep, names};

use crate::{
    api::{ApiServer, NAMESPACE},
    objects::node,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A controller that leads alone; ends with this.
pub(crate) struct Controller(Child);

impl Controller {
    pub(crate) fn start(server: &ApiServer, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft-controller"));
        command
            .env("KUBECONFIG", server.kubeconfig())
            .args(["run", "--store=kubernetes", "--reconnect-grace=0s"])
            .args(["--lease-duration=2s", "--renew-deadline=1s", "--retry-period=200ms"])
            .args(["--identity=alone", "--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0"])
            .arg(format!("--namespace={NAMESPACE}"))
            .args(options);
        Self(server.spawn("controller", &mut command))
    }

    /// Ends it as a crash does.
    pub(crate) fn crash(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it was started here");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// One cluster, seen from its API.
pub(crate) struct World {
    pub(crate) server: ApiServer,
    pub(crate) nodes: Api<Node>,
    pub(crate) vteps: Api<Vtep>,
    claims: Api<PodCidrClaim>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let server = ApiServer::start().await;
        let client = server.client();
        Self { nodes: Api::all(client.clone()), vteps: Api::all(client.clone()), claims: Api::all(client), server }
    }

    /// Asks until it is so: each of these things follows another after a moment.
    pub(crate) async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(found) = ask().await {
                return found;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain for {what}; the controller's log: {}", self.server.log("controller"));
    }

    pub(crate) async fn create(&self, name: &str) {
        self.nodes.create(&PostParams::default(), &node(name)).await.expect("a Node");
    }

    async fn create_with(&self, name: &str, cidr: &str) {
        let mut node = node(name);
        let spec = node.spec.get_or_insert_default();
        (spec.pod_cidr, spec.pod_cidrs) = (Some(cidr.to_owned()), Some(vec![cidr.to_owned()]));
        self.nodes.create(&PostParams::default(), &node).await.expect("a Node");
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.nodes.delete(name, &DeleteParams::default()).await.expect("it is there");
    }

    /// The pod CIDRs of a Node, once it has some.
    pub(crate) async fn cidrs(&self, name: &str) -> Vec<String> {
        let ask = async || self.nodes.get(name).await.ok()?.spec?.pod_cidrs.filter(|cidrs| !cidrs.is_empty());
        self.until(&format!("pod CIDRs of {name}"), ask).await
    }

    /// The Vtep of a Node's present life, once it lists these pod CIDRs.
    pub(crate) async fn vtep(&self, name: &str, cidrs: &[String]) -> Vtep {
        let uid = self.nodes.get(name).await.expect("it is there").metadata.uid;
        let ask = async || {
            let vtep = self.vteps.get(name).await.ok()?;
            (Some(&vtep.spec.node_uid) == uid.as_ref() && vtep.spec.pod_cidrs == cidrs).then_some(vtep)
        };
        self.until(&format!("the Vtep of {name} with {cidrs:?}"), ask).await
    }

    async fn owner(&self, claim: &str) -> Option<(String, bool)> {
        let claim = self.claims.get_opt(claim).await.expect("an answer")?;
        Some((claim.spec.node, claim.spec.released))
    }

    /// The text of an event about a Node, once there is one.
    pub(crate) async fn event(&self, node: &str, reason: &str) -> String {
        let events = Api::<Event>::namespaced(self.server.client(), "default");
        let ask = async || {
            let events = events.list(&ListParams::default()).await.ok()?.items;
            let about = |event: &Event| event.regarding.as_ref().and_then(|about| about.name.clone());
            let mut found = events
                .into_iter()
                .filter(|event| about(event).as_deref() == Some(node) && event.reason.as_deref() == Some(reason));
            found.next()?.note
        };
        self.until(&format!("event {reason} about {node}"), ask).await
    }

    async fn claims_are_disjoint(&self) {
        let vteps = self.vteps.list(&ListParams::default()).await.expect("a list").items;
        let mut all: Vec<String> = vteps.into_iter().flat_map(|vtep| vtep.spec.pod_cidrs).collect();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "two nodes have one CIDR: {all:?}");
    }
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn membership_follows_the_nodes() {
    let world = World::new().await;
    let options = ["--pool=10.244.0.0/16=24", "--pool=fd00:10::/48=64"];
    let controller = Controller::start(&world.server, &options);
    world.create("n1").await;
    world.create("n2").await;
    let first = world.cidrs("n1").await;
    assert_eq!(first.len(), 2, "one of each family");
    assert!(first[0].starts_with("10.244."), "the first pool's family comes first: {first:?}");
    let object = world.nodes.get("n1").await.expect("it is there");
    assert_eq!(object.metadata.annotations.expect("ours")[names::ALLOCATOR_ANNOTATION], names::ALLOCATOR);
    let life = world.vtep("n1", &first).await.spec.incarnation;
    let claim = first[0].replace('/', "-");
    assert_eq!(world.owner(&claim).await, Some(("n1".to_owned(), false)));
    let second = world.cidrs("n2").await;
    world.vtep("n2", &second).await;

    // A crash, and Nodes that come, go and are exchanged before the next start.
    controller.crash();
    world.delete("n1").await;
    world.delete("n2").await;
    world.create("n2").await;
    world.create("n3").await;
    let controller = Controller::start(&world.server, &options);
    world.cidrs("n3").await;
    let again = world.cidrs("n2").await;
    assert_eq!(again, second, "its pods run on under addresses of nobody");
    world.vtep("n2", &again).await;
    world.until("the end of n1", async || world.vteps.get_opt("n1").await.ok()?.is_none().then_some(())).await;
    world.until("its CIDR to be free", async || world.owner(&claim).await.is_none().then_some(())).await;
    world.create("n1").await;
    let later = world.cidrs("n1").await;
    assert!(world.vtep("n1", &later).await.spec.incarnation > life, "another life is a later one");
    world.claims_are_disjoint().await;

    // A restart changes nothing.
    let versions = async || {
        let claims = world.claims.list(&ListParams::default()).await.expect("a list").items;
        claims.into_iter().map(|claim| claim.metadata.resource_version).collect::<Vec<_>>()
    };
    let before = versions().await;
    controller.crash();
    let _controller = Controller::start(&world.server, &options);
    world.create("n4").await;
    world.cidrs("n4").await;
    let after = versions().await;
    assert!(before.iter().all(|version| after.contains(version)), "claims were written again without need");

    // What somebody else gave is taken as it is, and what does not fit is told.
    world.create_with("n5", "10.244.77.0/24").await;
    world.vtep("n5", &["10.244.77.0/24".to_owned()]).await;
    world.create_with("n6", "10.9.0.0/24").await;
    assert!(world.event("n6", "CidrOutsidePools").await.contains("10.244.0.0/16"));
    world.vtep("n6", &[]).await;
    world.claims_are_disjoint().await;
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn another_allocator_is_found_out_and_left_alone() {
    let world = World::new().await;
    world.create_with("n1", "10.244.1.0/24").await;
    world.create("n2").await;
    let _controller = Controller::start(&world.server, &["--pool=10.244.0.0/16=24"]);
    world.vtep("n1", &["10.244.1.0/24".to_owned()]).await;
    world.vtep("n2", &[]).await;
    // It goes to work in its own time.
    let patch = json!({ "spec": { "podCIDR": "10.244.2.0/24", "podCIDRs": ["10.244.2.0/24"] } });
    world.nodes.patch("n2", &PatchParams::default(), &Patch::Merge(patch)).await.expect("nobody else wrote it");
    world.vtep("n2", &["10.244.2.0/24".to_owned()]).await;
    // It gives a CIDR again at once, whoever may still route to the old owner.
    world.delete("n1").await;
    world.create_with("n3", "10.244.1.0/24").await;
    world.vtep("n3", &["10.244.1.0/24".to_owned()]).await;
    assert_eq!(world.owner("10.244.1.0-24").await, Some(("n3".to_owned(), false)));
    // But not twice.
    world.create_with("n4", "10.244.1.0/25").await;
    assert!(world.event("n4", "CidrTaken").await.contains("node n3"));
    let annotations = world.nodes.get("n2").await.expect("it is there").metadata.annotations.unwrap_or_default();
    assert!(!annotations.contains_key(names::ALLOCATOR_ANNOTATION));
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_full_pool_is_told_and_what_becomes_free_is_given() {
    let world = World::new().await;
    let options = ["--pool=10.244.0.0/23=24 name!=special", "--pool=10.245.0.0/24=24 name=special"];
    let _controller = Controller::start(&world.server, &options);
    for name in ["n1", "n2"] {
        world.create(name).await;
        assert!(world.cidrs(name).await[0].starts_with("10.244."));
    }
    world.create("n3").await;
    let text = world.event("n3", "PoolsExhausted").await;
    assert!(text.contains("10.244.0.0/23=24 (2 of 2 in use"), "{text}");
    let waiting = world.vtep("n3", &[]).await;
    let told = async || {
        let status = world.vteps.get("n3").await.ok()?.status?;
        let allocated = status.conditions.into_iter().find(|condition| condition.type_ == "Allocated")?;
        (allocated.status == "False" && allocated.reason == "PoolsExhausted").then_some(status.reason)
    };
    assert_eq!(world.until("the condition", told).await, "PoolsExhausted", "{waiting:?}");
    world.create("special").await;
    assert_eq!(world.cidrs("special").await, ["10.245.0.0/24"]);
    let freed = world.cidrs("n1").await;
    world.delete("n1").await;
    assert_eq!(world.cidrs("n3").await, freed);
    world.claims_are_disjoint().await;
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_pool_among_the_services_is_refused() {
    let world = World::new().await;
    let _controller = Controller::start(&world.server, &["--pool=10.96.0.0/12=24"]);
    let told = async || {
        let log = world.server.log("controller");
        log.contains("shares addresses with the Services' network 10.96.0.0/16").then_some(())
    };
    world.until("the refusal", told).await;
}
