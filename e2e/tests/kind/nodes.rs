//! Nodes that are drained, deleted, and come again under the same name.

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use weft_api::{PodCidrClaim, VtepState, claim_name};
use weft_e2e::{
    kind::{Kind, Node, Scene, wait as watch, weft::condition},
    kind_test,
    lab::wait,
};

use crate::streams::Streams;

/// The pod CIDRs that a node's object has.
async fn cidrs(kind: &Kind, node: &Node) -> Result<Vec<IpNetwork>> {
    let spec = node.object(&kind.client()).await?.spec.unwrap_or_default();
    spec.pod_cidrs.unwrap_or_default().iter().map(|cidr| Ok(cidr.parse()?)).collect()
}

/// Waits until no other node has a route to these networks.
async fn forgotten(kind: &Kind, left: &Node, networks: &[IpNetwork]) -> Result<()> {
    for node in kind.nodes().filter(|node| node.name() != left.name()) {
        for network in networks {
            let what = format!("the route to {network} on {} to go", node.name());
            wait::until(&what, wait::PATIENCE, async || {
                let routes = node.net().wire().routes_to((network.network(), network.prefix())).await?;
                ensure!(routes.is_empty(), "there are {}", routes.len());
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

kind_test!(a_node_is_drained_deleted_and_comes_again_under_its_name, async |kind: &Kind| {
    let streams = Streams::start(kind, "others").await?;
    let nodes: Api<v1::Node> = Api::all(kind.client());
    let claims: Api<PodCidrClaim> = Api::all(kind.client());
    // Not the one with the streams' pods.
    let [_, node] = kind.neighbours();
    let (name, had) = (node.name(), cidrs(kind, node).await?);
    let before = kind.vteps().get(name).await?;
    kind.kubectl(&["drain", name, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=50s"]).await?;
    // It registers itself anew as soon as it is deleted, but for this.
    node.run(&["systemctl", "stop", "kubelet"]).await?;
    let left = async {
        nodes.delete(name, &DeleteParams::default()).await?;
        watch::gone(&kind.vteps(), name, watch::PATIENCE).await.context("its resource")?;
        forgotten(kind, node, &had).await?;
        let listed = kind.peers().await?;
        ensure!(listed.iter().all(|peer| peer.node != name), "{name} is still listed");
        for network in &had {
            let claim = claim_name(*network)?;
            watch::gone(&claims, &claim, watch::PATIENCE).await.with_context(|| format!("the claim to {network}"))?;
        }
        anyhow::Ok(())
    };
    let left = left.await;
    // What is said first of the new life's network, which nobody has looked at.
    let first = watch::object(&nodes, name, "the new node's network to be judged", watch::PATIENCE, |node| {
        Ok(condition(node.context("there is no such node")?, "NetworkUnavailable")?.to_owned())
    });
    let (started, first) = tokio::join!(node.run(&["systemctl", "start", "kubelet"]), first);
    started?;
    left?;
    let first = first?;
    ensure!(first == "True", "before anything was read back, NetworkUnavailable was {first}");
    kind.told(name, &[VtepState::Ready]).await?;
    kind.settled().await?;
    let after = kind.vteps().get(name).await?;
    ensure!(after.spec.node_uid != before.spec.node_uid, "it is the same life: {:?}", after.spec);
    ensure!(
        after.spec.incarnation > before.spec.incarnation,
        "{} after {}",
        after.spec.incarnation,
        before.spec.incarnation
    );
    let has = cidrs(kind, node).await?;
    ensure!(has.len() == had.len(), "it has {has:?} and had {had:?}");
    for network in &has {
        let claim = claims.get(&claim_name(*network)?).await?;
        ensure!(claim.spec.node == name && !claim.spec.released, "{}: {:?}", claim.name_any(), claim.spec);
    }
    let scene = Scene::set(kind, "newcomer").await?;
    let [here, _] = kind.across();
    let pods = [scene.pod("here", here).await?, scene.pod("new", node).await?];
    for family in kind.families() {
        pods[0].reaches(pods[1].address(family)).await?;
        pods[1].reaches(pods[0].address(family)).await?;
    }
    scene.end().await?;
    streams.expect_no_loss().await
});

// Its kubelet registers it again when it starts, and its pods never stopped.
kind_test!(a_node_deleted_by_hand_keeps_the_pod_cidr_that_its_pods_have, async |kind: &Kind| {
    let nodes: Api<v1::Node> = Api::all(kind.client());
    let ([here, _], [_, node]) = (kind.across(), kind.neighbours());
    let scene = Scene::set(kind, "deleted").await?;
    let pods = [scene.pod("here", here).await?, scene.pod("there", node).await?];
    let (name, had) = (node.name(), cidrs(kind, node).await?);
    let before = node.object(&kind.client()).await?.uid();
    nodes.delete(name, &DeleteParams::default()).await?;
    node.run(&["systemctl", "restart", "kubelet"]).await?;
    watch::object(&nodes, name, "the node to register again", watch::PATIENCE, |node| {
        let uid = node.and_then(ResourceExt::uid);
        uid.clone().filter(|_| uid != before).context("it has not")
    })
    .await?;
    kind.told(name, &[VtepState::Ready]).await?;
    kind.settled().await?;
    let has = cidrs(kind, node).await?;
    ensure!(has == had, "it has {has:?} and its pods have addresses of {had:?}");
    for family in kind.families() {
        pods[0].reaches(pods[1].address(family)).await?;
        pods[1].reaches(pods[0].address(family)).await?;
    }
    scene.end().await
});

// As simulators and serverless nodes bring them along, with pod CIDRs of their own.
kind_test!(a_node_without_an_agent_is_no_member_and_holds_nobody_up, async |kind: &Kind| {
    let nodes: Api<v1::Node> = Api::all(kind.client());
    let fake: v1::Node = serde_json::from_value(json!({
        "metadata": { "name": "fake", "labels": { "type": "kwok", "kubernetes.io/os": "linux" } },
        "spec": { "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"] },
    }))?;
    nodes.create(&PostParams::default(), &fake).await?;
    let checked = async {
        // An upgrade that restarts all agents, and a new leader.
        kind.install(&json!({ "agent": { "logFormat": "json" } })).await?;
        kind.install(&json!({})).await?;
        let node = nodes.get("fake").await?;
        ensure!(condition(&node, "NetworkUnavailable").is_err(), "no pod would ever be put there");
        ensure!(kind.vteps().get_opt("fake").await?.is_none(), "it is a member");
        kind.settled().await
    };
    let checked = checked.await;
    nodes.delete("fake", &DeleteParams::default()).await?;
    checked
});
