//! Pools that are grown, replaced and drained under 1,000 packets a second, between pods and to outside.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{core::v1, events};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use weft_api::VtepState;
use weft_e2e::{
    kind::{Kind, Node, Pod, Scene, wait as watch, weft::condition},
    kind_test,
    lab::{Stream, wait},
};

use crate::streams::Streams;

/// The condition of a Node whose pod CIDR lies in no pool.
const OUTSIDE: &str = "PodCIDROutsidePools";
/// Packets a second.
const RATE: u32 = 1000;
/// Packets that a stream sends at least.
const LEAST: u64 = 500;

/// The pools that the cluster has otherwise.
pub(crate) fn old(kind: &Kind) -> Vec<Value> {
    let all =
        [json!({ "cidr": "10.244.0.0/16", "nodePrefix": 24 }), json!({ "cidr": "fd00:10:244::/56", "nodePrefix": 64 })];
    all.into_iter().take(kind.families().len()).collect()
}

fn new(kind: &Kind) -> Vec<Value> {
    let all =
        [json!({ "cidr": "10.99.0.0/16", "nodePrefix": 24 }), json!({ "cidr": "fd00:10:99::/56", "nodePrefix": 64 })];
    all.into_iter().take(kind.families().len()).collect()
}

/// Streams from a pod to the router, which is no part of the cluster, and between this pod and another.
fn streams(kind: &Kind, pod: &Pod, other: &Pod) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for family in kind.families() {
        let outside = kind.router_address(kind.node(pod.node()).subnet(), family)?;
        streams.push(Stream::start(pod.net(), kind.router(), outside, RATE)?);
        streams.push(Stream::start(pod.net(), other.net(), other.address(family), RATE)?);
        streams.push(Stream::start(other.net(), pod.net(), pod.address(family), RATE)?);
    }
    Ok(streams)
}

async fn expect_no_loss(streams: Vec<Stream>) -> Result<()> {
    for stream in streams {
        stream.pass(LEAST).await;
        let account = stream.stop().await?;
        println!("{} packets, {} lost, {} late", account.sent, account.lost_packets(), account.late);
        account.expect_no_loss(LEAST)?;
    }
    Ok(())
}

/// Waits until exactly these nodes are said to be outside the pools.
async fn said(kind: &Kind, outside: impl Fn(&str) -> bool) -> Result<()> {
    for node in kind.nodes() {
        let wanted = outside(node.name());
        wait::until(&format!("{OUTSIDE} of {} to be {wanted}", node.name()), wait::PATIENCE, async || {
            let object = node.object(&kind.client()).await?;
            ensure!(condition(&object, OUTSIDE).is_ok() == wanted, "{:?}", object.status.and_then(|it| it.conditions));
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Has the pods of a node made anew elsewhere, and no others come.
async fn drained(kind: &Kind, node: &Node) -> Result<()> {
    let how = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=50s"];
    kind.kubectl(&[&["drain", node.name()], how.as_slice()].concat()).await.map(drop)
}

/// Has a node get pod CIDRs anew, as the documents say.
pub(crate) async fn moved(kind: &Kind, node: &Node) -> Result<()> {
    drained(kind, node).await?;
    registered_again(kind, node).await?;
    kind.told(node.name(), &[VtepState::Ready]).await?;
    kind.settled().await
}

async fn registered_again(kind: &Kind, node: &Node) -> Result<()> {
    let (nodes, name): (Api<v1::Node>, _) = (Api::all(kind.client()), node.name());
    let before = node.object(&kind.client()).await?.uid();
    nodes.delete(name, &DeleteParams::default()).await?;
    node.run(&["systemctl", "restart", "kubelet"]).await?;
    watch::object(&nodes, name, "the node to register again", watch::PATIENCE, |node| {
        let uid = node.and_then(ResourceExt::uid);
        uid.clone().filter(|_| uid != before).context("it has not")
    })
    .await
    .map(drop)
}

kind_test!(pools_are_grown_replaced_and_drained_without_loss, async |kind: &Kind| {
    let between = Streams::start(kind, "pools").await?;
    let scene = Scene::set(kind, "moved").await?;
    let ([here, _], [_, node]) = (kind.across(), kind.neighbours());
    let stays = scene.pod("stays", here).await?;
    let first = scene.pod("first", node).await?;
    let running = streams(kind, &stays, &first)?;

    let both = [old(kind), new(kind)].concat();
    kind.install(&json!({ "pools": both })).await?;
    said(kind, |_| false).await?;
    kind.install(&json!({ "pools": new(kind) })).await?;
    said(kind, |_| true).await?;
    expect_no_loss(running).await?;

    scene.delete_pod("first").await?;
    moved(kind, node).await?;
    said(kind, |name| name != node.name()).await?;
    let moved_pod = scene.pod("moved", node).await?;
    let address = moved_pod.address(kind.families()[0]).to_string();
    ensure!(address.starts_with("10.99."), "the moved node's pod has {address}");
    let running = streams(kind, &stays, &moved_pod)?;
    // And back: now the moved one is outside.
    kind.install(&json!({})).await?;
    said(kind, |name| name == node.name()).await?;
    expect_no_loss(running).await?;
    scene.delete_pod("moved").await?;
    moved(kind, node).await?;
    said(kind, |_| false).await?;
    scene.end().await?;
    between.expect_no_loss().await
});

// Nobody drained it: its pod's address is of the pool that is gone.
kind_test!(a_node_that_got_another_pod_cidr_names_the_pods_it_left_behind_and_takes_new_ones, async |kind: &Kind| {
    let scene = Scene::set(kind, "behind").await?;
    let ([here, _], [_, node]) = (kind.across(), kind.neighbours());
    let stays = scene.pod("stays", here).await?;
    // Earlier tests drain nodes, so that CoreDNS may be here, and would be left behind too.
    drained(kind, node).await?;
    kind.kubectl(&["uncordon", node.name()]).await?;
    scene.pod("behind", node).await?;
    kind.install(&json!({ "pools": new(kind) })).await?;
    registered_again(kind, node).await?;
    let status = kind.told(node.name(), &[VtepState::Degraded]).await?;
    ensure!(status.reason == "PodsOutsideCidr" && status.message.contains("behind"), "{status:?}");
    let events: Api<events::v1::Event> = Api::all(kind.client());
    wait::until("the Event at the Node", wait::PATIENCE, async || {
        let told = events.list(&ListParams::default().fields("reason=PodsOutsideCidr")).await?.items;
        ensure!(told.iter().any(|event| event.note.as_deref().is_some_and(|note| note.contains("behind"))), "{told:?}");
        Ok(())
    })
    .await?;
    let pod = scene.pod("new", node).await?;
    for family in kind.families() {
        pod.reaches(stays.address(family)).await?;
        stays.reaches(pod.address(family)).await?;
    }
    scene.delete_pod("behind").await?;
    kind.told(node.name(), &[VtepState::Ready]).await?;
    scene.delete_pod("new").await?;
    kind.install(&json!({})).await?;
    moved(kind, node).await?;
    scene.end().await
});
