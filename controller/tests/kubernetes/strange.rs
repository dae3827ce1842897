//! What clusters really hold: Nodes that wait for a finalizer, Leases of clocks that were wrong, webhooks that fail.

use std::time::Duration;

use k8s_openapi::{
    api::{
        admissionregistration::v1::ValidatingWebhookConfiguration,
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
    serde_json::{self, json},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rustix::process::Signal;
use tokio::time::interval;
use weft_api::{Vtep, names};

use crate::{
    api::{ApiServer, NAMESPACE},
    leaders::{LEASE, PATIENCE, Replica, holder},
    nodes::{Controller, World},
    objects::node,
};

// Its machine runs on until the finalizer's owner is done, and so do its pods.
#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_node_that_waits_for_its_finalizer_is_a_member_until_it_is_gone() {
    let world = World::new().await;
    let _controller = Controller::start(&world.server, &["--pool=10.244.0.0/16=24"]);
    world.create("n1").await;
    let cidrs = world.cidrs("n1").await;
    let before = world.vtep("n1", &cidrs).await;
    let finalizer = |list: &[&str]| Patch::Merge(json!({ "metadata": { "finalizers": list } }));
    world.nodes.patch("n1", &PatchParams::default(), &finalizer(&["example.com/drain"])).await.expect("patched");
    world.delete("n1").await;
    // A later Node is taken in: whatever follows from the deletion has followed.
    world.create("n2").await;
    let other = world.cidrs("n2").await;
    world.vtep("n2", &other).await;
    let after = world.vtep("n1", &cidrs).await;
    assert_eq!(after.spec.incarnation, before.spec.incarnation);
    world.nodes.patch("n1", &PatchParams::default(), &finalizer(&[])).await.expect("patched");
    world.until("the end of n1", async || world.vteps.get_opt("n1").await.ok()?.is_none().then_some(())).await;
}

// A holder whose clock was years ahead, and who is gone: what counts is that nobody renews it.
#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_lease_from_the_future_is_taken_over_once_nobody_has_renewed_it() {
    let server = ApiServer::start().await;
    let leases = Api::<Lease>::namespaced(server.client(), NAMESPACE);
    let future = MicroTime(Timestamp::now() + SignedDuration::from_hours(24 * 365));
    let lease = Lease {
        metadata: kube::api::ObjectMeta { name: Some(names::CONTROLLER.to_owned()), ..Default::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some("somebody-else".to_owned()),
            lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
            acquire_time: Some(future.clone()),
            renew_time: Some(future),
            lease_transitions: Some(7),
            ..LeaseSpec::default()
        }),
    };
    let _absent = leases.delete(names::CONTROLLER, &DeleteParams::default()).await;
    leases.create(&PostParams::default(), &lease).await.expect("a Lease");
    let replica = Replica::start(&server, "second");
    let waited = replica.ready_within("ready", PATIENCE + Duration::from_secs(10)).await;
    assert!(holder(&server).await.contains("second"), "after {waited:?}");
}

const FOREIGN: &str = "somebody-else_1";

/// Writes the Lease as a holder does whose clock is decades ahead.
async fn renew_as_another(leases: &Api<Lease>, second: u32) -> Lease {
    let time = format!("2099-01-01T00:00:{second:02}.000000Z");
    let spec = json!({
        "holderIdentity": FOREIGN, "leaseDurationSeconds": 4, "leaseTransitions": 7, "acquireTime": time, "renewTime": time,
    });
    let patch = Patch::Merge(json!({ "spec": spec }));
    leases.patch(names::CONTROLLER, &PatchParams::default(), &patch).await.expect("the Lease is there")
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_foreign_holder_that_renews_a_lease_of_the_future_is_left_alone() {
    let server = ApiServer::start().await;
    let leases = Api::<Lease>::namespaced(server.client(), NAMESPACE);
    // The cluster's authority is there; without one a replica has nothing to listen with.
    let mut before = Replica::start(&server, "before");
    before.ready_as("ready").await;
    before.signal(Signal::TERM);
    before.ended();
    renew_as_another(&leases, 0).await;
    Api::<Node>::all(server.client()).create(&PostParams::default(), &node("n1")).await.expect("a Node");
    let mut replica = Replica::start(&server, "ours");
    let standby = format!("standby of {FOREIGN}");
    let mut pace = interval(Duration::from_secs(1));
    let renewing = async {
        loop {
            pace.tick().await;
            renew_as_another(&leases, 1).await;
        }
    };
    tokio::select! {
        _ = replica.ready_as(&standby) => {}
        () = renewing => unreachable!("it never ends"),
    }
    // Twice as long as it lasts.
    for second in 2..10 {
        let renewed = renew_as_another(&leases, second).await;
        pace.tick().await;
        replica.ready_as(&standby).await;
        let now = leases.get(names::CONTROLLER).await.expect("the Lease");
        assert_eq!(now.metadata.resource_version, renewed.metadata.resource_version, "it wrote the Lease");
    }
    let vteps = Api::<Vtep>::all(server.client());
    assert!(vteps.list(&ListParams::default()).await.expect("a list").items.is_empty(), "it took a Node in");
    // Not renewed any more, it ends by this replica's own clock, not by the Lease's.
    replica.ready_as("ready").await;
    assert!(holder(&server).await.starts_with("ours_"));
    replica.signal(Signal::TERM);
    replica.ended();
}

// Nobody answers it, so every write of a Node fails until an operator takes it away.
#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_failing_webhook_on_nodes_is_told_and_outlived() {
    let world = World::new().await;
    world.create("n1").await;
    let webhooks = Api::<ValidatingWebhookConfiguration>::all(world.server.client());
    let broken: ValidatingWebhookConfiguration = serde_json::from_value(json!({
        "metadata": { "name": "broken" },
        "webhooks": [{
            "name": "nodes.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 1, "clientConfig": { "url": "https://127.0.0.1:1/" },
            "rules": [{ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["nodes", "nodes/*"] }],
        }],
    }))
    .expect("a configuration");
    webhooks.create(&PostParams::default(), &broken).await.expect("it is taken");
    let _controller = Controller::start(&world.server, &["--pool=10.244.0.0/16=24"]);
    let told = async || world.server.log("controller").contains("nodes.example.com").then_some(());
    world.until("the webhook to be named", told).await;
    // It is a member all the same: the Vtep is no Node.
    let vtep = async || world.vteps.get("n1").await.ok().filter(|vtep| !vtep.spec.pod_cidrs.is_empty());
    let given = world.until("its Vtep", vtep).await.spec.pod_cidrs;
    let told = world.event("n1", "StoreFailed").await;
    assert!(
        told.contains("pod CIDRs could not be written into Node n1: ") && told.contains("nodes.example.com"),
        "{told}"
    );
    webhooks.delete("broken", &DeleteParams::default()).await.expect("it is there");
    assert_eq!(world.cidrs("n1").await, given, "what was decided is written once it can be");
}
