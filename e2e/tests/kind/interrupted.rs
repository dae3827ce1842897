//! Uninstallations that do not come to their end: nobody is left who asks, or a node is dead. Shows that what is left of them
//! strikes nobody, and that the release goes on.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{self, ConfigMap},
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use weft_api::{VtepState, names};
use weft_e2e::{
    kind::{
        Kind, Node, Scene,
        helm::{NAMESPACE, RELEASE, chart},
        wait,
        weft::condition,
    },
    kind_test,
    lab::wait::until,
};

use crate::{
    hooks::{JOB, LATE, refused},
    streams::Streams,
    uninstall::restart_dns,
};

async fn roll_back_to(kind: &Kind, revision: u64) -> Result<()> {
    kind.helm(&["rollback", RELEASE, &revision.to_string(), "--namespace", NAMESPACE]).await.map(drop)
}

/// Waits until the hook's pod has no image.
async fn waits_for_its_image(kind: &Kind) -> Result<()> {
    let pods: Api<v1::Pod> = kind.own();
    let selected = ListParams::default().labels(&format!("job-name={JOB}"));
    until("the hook's pod to miss its image", wait::PATIENCE, async || {
        let pods = pods.list(&selected).await?;
        let statuses = pods.iter().flat_map(|pod| pod.status.iter().flat_map(|status| &status.container_statuses));
        let mut waiting = statuses.flatten().filter_map(|status| status.state.as_ref()?.waiting.as_ref());
        let reason = waiting.next().and_then(|waiting| waiting.reason.clone()).context("it does not wait")?;
        ensure!(reason.contains("ImagePull"), "it waits for {reason}");
        Ok(())
    })
    .await
}

/// Has Helm uninstall, and kills it once the hook's pod waits for its image.
async fn an_uninstallation_that_dies(kind: &Kind) -> Result<()> {
    tokio::select! {
        ended = kind.uninstall() => ended.context("no image, and yet Helm was through"),
        waits = waits_for_its_image(kind) => waits,
    }
}

async fn forget_late(kind: &Kind) -> Result<()> {
    for node in kind.nodes() {
        node.untag_image(LATE).await?;
    }
    Ok(())
}

// As it was reported: the Job had waited through a rollback for its image, and struck when that came.
kind_test!(a_hook_that_outlived_its_uninstallation_takes_nothing_away, async |kind: &Kind| {
    forget_late(kind).await?;
    let streams = Streams::start(kind, "outlived").await?;
    let (good, _) = kind.revision().await?;
    kind.upgrade(&chart(), &kind.values(&json!({ "image": { "tag": "late" } })), &[]).await?;
    an_uninstallation_that_dies(kind).await?;
    let (_, state) = kind.revision().await?;
    ensure!(state == "uninstalling", "the release is {state}: this shows nothing");
    roll_back_to(kind, good).await?;
    kind.settled().await?;
    kind.own::<Job>().get(JOB).await.context("the Job went by itself: this shows nothing")?;
    for node in kind.nodes() {
        node.tag_image("docker.io/library/weft:dev", LATE).await?;
    }
    let ended = refused(kind).await;
    forget_late(kind).await?;
    ended?;
    kind.settled().await?;
    streams.expect_no_loss().await
});

/// Unplugs a node and waits until Kubernetes has noticed.
async fn dies(kind: &Kind, node: &Node) -> Result<()> {
    node.set_connected(kind.router(), false).await?;
    let nodes: Api<v1::Node> = Api::all(kind.client());
    wait::object(&nodes, node.name(), "the node to be found dead", wait::PATIENCE, |node| {
        let status = condition(node.context("there is no such node")?, "Ready")?;
        ensure!(status == "Unknown", "it is {status}");
        Ok(())
    })
    .await
}

/// Waits until the leader says nothing of an uninstallation, and has called it off.
async fn called_off(kind: &Kind) -> Result<()> {
    wait::object(&kind.own::<ConfigMap>(), names::CLUSTER, "the end of the uninstallation", wait::PATIENCE, |map| {
        let data = map.and_then(|map| map.data.as_ref()).context("there is no such object")?;
        let told = data.get(names::UNINSTALL);
        ensure!(told.is_none(), "it says {told:?}");
        Ok(())
    })
    .await
}

/// Waits until each of these nodes has another agent than one of these, and is well.
async fn updated(kind: &Kind, nodes: &[&Arc<Node>], before: &[String]) -> Result<()> {
    for node in nodes {
        until(&format!("the new agent of {}", node.name()), 2 * wait::PATIENCE, async || {
            let agent = kind.agent_on(node.name()).await?;
            ensure!(!before.contains(&agent.name_any()), "it is still {}", agent.name_any());
            let statuses = agent.status.and_then(|status| status.container_statuses).unwrap_or_default();
            ensure!(statuses.iter().any(|status| status.ready), "it is not ready");
            Ok(())
        })
        .await?;
        kind.told(node.name(), &[VtepState::Ready]).await?;
    }
    Ok(())
}

/// The index of Weft's device.
async fn device(node: &Node) -> Result<u32> {
    node.net().wire().index("weft0").await
}

/// An uninstallation that a dead node keeps from its end; what Helm says, and the ways that the documents show.
async fn fails_and_is_taken_back(kind: &Kind, dead: &Node, living: &[&Arc<Node>]) -> Result<()> {
    let (revision, _) = kind.revision().await?;
    let failed = kind.uninstall().await.err().context("a node is dead, and Helm was through")?;
    println!("{failed:#}");
    let (_, state) = kind.revision().await?;
    ensure!(state == "uninstalling", "the release is {state}");
    let map = kind.own::<ConfigMap>().get(names::CLUSTER).await?;
    let told = map.data.and_then(|data| data.get(names::UNINSTALL).cloned()).unwrap_or_default();
    ensure!(told.contains(dead.name()), "{} is not said to be waited for: {told}", dead.name());
    // Nobody renews the request.
    called_off(kind).await?;
    for node in living {
        kind.told(node.name(), &[VtepState::Ready]).await?;
        device(node).await.with_context(|| format!("{} was not programmed again", node.name()))?;
    }
    let chart = chart();
    let words = ["upgrade", RELEASE, &chart.to_string_lossy(), "--namespace", NAMESPACE, "--reuse-values"];
    let refused = kind.helm(&words).await.err().context("Helm upgrades a release that goes")?;
    ensure!(format!("{refused:#}").contains("has no deployed releases"), "{refused:#}");
    roll_back_to(kind, revision).await?;
    let job = ["delete", "job", "weft-uninstall", "--ignore-not-found"];
    kind.kubectl(&[&["--namespace", NAMESPACE], &job[..]].concat()).await?;
    Ok(())
}

// The nodes that answered were cleaned, as they were asked to be; the dead one never heard of it.
kind_test!(a_failed_uninstallation_calls_itself_off_and_a_dead_node_stops_no_upgrade, async |kind: &Kind| {
    let [_, dead] = kind.neighbours();
    let living: Vec<_> = kind.nodes().filter(|node| node.name() != dead.name()).collect();
    kind.install(&json!({ "uninstall": { "timeout": "30s" } })).await?;
    let scene = Scene::set(kind, "dead").await?;
    let kept = scene.pod("kept", dead).await?;
    let before = device(dead).await?;
    let changed = async {
        dies(kind, dead).await?;
        fails_and_is_taken_back(kind, dead, &living).await?;
        let agents: Vec<_> = kind.pods_of(names::AGENT).await?.iter().map(ResourceExt::name_any).collect();
        kind.upgrade(&chart(), &kind.values(&json!({ "agent": { "logFormat": "json" } })), &[]).await?;
        updated(kind, &living, &agents).await
    };
    let changed = changed.await;
    dead.set_connected(kind.router(), true).await?;
    changed?;
    kind.settled().await?;
    ensure!(device(dead).await? == before, "{} was cleaned when it returned", dead.name());
    let new = scene.pod("new", kind.across()[0]).await?;
    for family in kind.families() {
        new.reaches(kept.address(family)).await?;
        kept.reaches(new.address(family)).await?;
    }
    scene.end().await?;
    kind.install(&json!({})).await?;
    restart_dns(kind).await
});
