//! When a node takes pods, and what becomes of those that come earlier.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1;
use kube::{Api, api::ListParams};
use serde_json::json;
use weft_api::VtepState;
use weft_core::types::Family;
use weft_e2e::{
    kind::{Kind, Scene, weft::condition},
    kind_test,
    lab::wait,
};

/// The taint that keeps pods from a node without a network.
const TAINT: &str = "node.kubernetes.io/network-unavailable";

kind_test!(every_node_says_that_its_network_is_available, async |kind: &Kind| {
    for node in kind.nodes() {
        let object = node.object(&kind.client()).await?;
        ensure!(condition(&object, "NetworkUnavailable")? == "False", "{}: {:?}", node.name(), object.status);
        let taints = object.spec.and_then(|spec| spec.taints).unwrap_or_default();
        ensure!(taints.iter().all(|taint| taint.key != TAINT), "{} is tainted: {taints:?}", node.name());
    }
    Ok(())
});

/// What the kubelet said of a pod that it cannot start.
async fn complaint(kind: &Kind, scene: &Scene, pod: &str) -> Result<String> {
    let events: Api<v1::Event> = Api::namespaced(kind.client(), scene.name());
    let about = ListParams::default().fields(&format!("involvedObject.name={pod},reason=FailedCreatePodSandBox"));
    wait::until(&format!("the kubelet to say why {pod} waits"), wait::PATIENCE, async || {
        let told = events.list(&about).await?.items.into_iter().find_map(|event| event.message);
        told.context("it has said nothing")
    })
    .await
}

kind_test!(pods_of_a_node_without_its_agent_wait_and_running_ones_go_on, async |kind: &Kind| {
    let scene = Scene::set(kind, "waiting").await?;
    let [here, there] = kind.across();
    let (client, running) = (scene.pod("client", here).await?, scene.pod("running", there).await?);
    let absent = kind.remove_agent(there).await?;
    let looked = async {
        kind.told(there.name(), &[VtepState::Disconnected]).await?;
        scene.create_pod("waiting", "waiting", there, &json!({})).await?;
        let told = complaint(kind, &scene, "waiting").await?;
        ensure!(told.contains("weft-agent does not answer"), "the kubelet was told: {told}");
        client.reaches(running.address(Family::V4)).await?;
        running.reaches(client.address(Family::V4)).await?;
        // The data plane works: an agent that is away does not make a node unavailable.
        let object = there.object(&kind.client()).await?;
        ensure!(condition(&object, "NetworkUnavailable")? == "False", "the network is said to be unavailable");
        anyhow::Ok(())
    };
    let looked = looked.await;
    absent.restore().await?;
    looked?;
    kind.well(there).await?;
    let waited = scene.ready("waiting").await?;
    client.reaches(waited.address(Family::V4)).await?;
    scene.end().await
});
