//! A release's life with Helm: upgrades that fail, rollbacks, uninstallations that fail and are called off, and a new
//! installation.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::DaemonSet;
use serde_json::json;
use weft_api::{VtepState, names};
use weft_core::types::Family;
use weft_e2e::{
    kind::{
        Kind, Node, Scene,
        description::directory,
        helm::{NAMESPACE, RELEASE, chart},
    },
    kind_test,
    lab::wait,
};

use crate::{
    streams::Streams,
    uninstall::{nothing_is_left, restart_dns},
};

/// A worker without a controller's pod.
async fn spare(kind: &Kind) -> Result<&std::sync::Arc<Node>> {
    let pods = kind.pods_of(names::CONTROLLER).await?;
    let busy: BTreeSet<String> = pods.into_iter().filter_map(|pod| pod.spec?.node_name).collect();
    let mut workers = kind.nodes().filter(|node| !node.is_control_plane());
    workers.find(|node| !busy.contains(node.name())).context("every worker has a controller")
}

/// An image that no registry has: helm gives up, and those agents that were not replaced go on.
async fn fail_to_upgrade(kind: &Kind) -> Result<()> {
    let values = kind.values(&json!({ "image": { "tag": "missing" }, "agent": { "logFormat": "json" } }));
    let failed = kind.upgrade(&chart(), &values, &["--wait", "--timeout", "25s"]).await;
    ensure!(failed.is_err(), "an image that does not exist was installed");
    let status = kind.own::<DaemonSet>().get(names::AGENT).await?.status.context("no status")?;
    let (all, left) = (status.desired_number_scheduled, status.number_ready);
    // 34 %, rounded up.
    ensure!(all - left <= (all * 34 + 99) / 100, "of {all} agents only {left} are ready");
    Ok(())
}

/// An uninstallation that a node without a network keeps from its end, and what it says.
async fn fail_to_uninstall(kind: &Kind, dead: &Node) -> Result<String> {
    let failed = kind.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--timeout", "3m"]).await;
    let said = format!("{:#}", failed.err().context("it uninstalled a cluster with a dead node")?);
    println!("helm uninstall said: {said}");
    ensure!(said.contains(dead.name()), "helm did not name {}: {said}", dead.name());
    Ok(said)
}

/// The way back that it has printed.
async fn go_back(kind: &Kind, said: &str) -> Result<()> {
    let printed = said.split('`').find(|words| words.starts_with("helm rollback ")).context("it names no way back")?;
    let words: Vec<&str> = printed.split_whitespace().skip(1).collect();
    kind.helm(&words).await.map(drop)
}

kind_test!(a_release_survives_what_fails_on_its_way, async |kind: &Kind| {
    let streams = Streams::start(kind, "life").await?;
    let short = json!({ "uninstall": { "timeout": "20s" } });
    kind.install(&short).await?;
    fail_to_upgrade(kind).await?;
    streams.pass().await;
    kind.rollback().await?;
    streams.expect_no_loss().await?;

    let (scene, dead) = (Scene::set(kind, "dead").await?, spare(kind).await?);
    let kept = scene.pod("kept", dead).await?;
    dead.set_connected(kind.router(), false).await?;
    let failed = fail_to_uninstall(kind, dead).await;
    // Called off by the operator, who does not wait until it calls itself off.
    let called_off = async {
        let said = failed?;
        kind.weft(&["uninstall", "--kubernetes", "--call-off"]).await?;
        go_back(kind, &said).await?;
        for node in kind.nodes().filter(|node| node.name() != dead.name()) {
            kind.told(node.name(), &[VtepState::Ready]).await?;
        }
        anyhow::Ok(())
    };
    let called_off = called_off.await;
    dead.set_connected(kind.router(), true).await?;
    called_off?;
    // It comes back after all of that, and finds itself a member.
    kind.settled().await?;
    let here = kind.nodes().find(|node| node.name() != dead.name()).context("one node only")?;
    let new = scene.pod("new", here).await?;
    wait::until("the pod that nobody cleaned up to be reached", wait::PATIENCE, async || {
        new.reaches(kept.address(Family::V4)).await?;
        kept.reaches(new.address(Family::V4)).await.map(drop)
    })
    .await?;
    scene.end().await?;

    kind.install(&json!({})).await?;
    kind.uninstall().await?;
    let left = nothing_is_left(kind).await;
    kind.install(&json!({})).await?;
    left?;
    restart_dns(kind).await
});

// As `helm upgrade --force` and its like do, which replace objects instead of patching them.
kind_test!(a_forced_upgrade_loses_no_packet, async |kind: &Kind| {
    let streams = Streams::start(kind, "forced").await?;
    let values = kind.values(&json!({ "agent": { "logFormat": "json" } }));
    kind.upgrade(&chart(), &values, &["--force", "--wait", "--timeout", "4m"]).await?;
    kind.settled().await?;
    kind.install(&json!({})).await?;
    streams.expect_no_loss().await
});

/// A chart that has Weft's as a part, under a condition.
pub(crate) fn parent() -> Result<PathBuf> {
    let parent = directory().join("parent");
    let charts = parent.join("charts");
    std::fs::create_dir_all(&charts)?;
    let _ = std::fs::remove_file(charts.join("weft"));
    std::os::unix::fs::symlink(chart(), charts.join("weft"))?;
    let text = "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n  - {name: weft, version: 0.1.0, condition: weft.enabled}\n";
    std::fs::write(parent.join("Chart.yaml"), text)?;
    Ok(parent)
}

/// The image's digest, under which every node has it from now on.
async fn digest(kind: &Kind) -> Result<String> {
    let mut found = BTreeSet::new();
    for node in kind.nodes() {
        let list = node.sh("ctr --namespace k8s.io images list name==docker.io/library/weft:dev").await?;
        let digest = list.split_whitespace().find(|word| word.starts_with("sha256:")).context("no digest")?.to_owned();
        let name = format!("docker.io/library/weft@{digest}");
        node.sh(&format!("ctr --namespace k8s.io images tag --force docker.io/library/weft:dev {name}")).await?;
        found.insert(digest);
    }
    ensure!(found.len() == 1, "nodes have different images: {found:?}");
    found.into_iter().next().context("no node")
}

kind_test!(a_parent_chart_installs_it_by_digest_without_loss, async |kind: &Kind| {
    let streams = Streams::start(kind, "parent").await?;
    let digest = digest(kind).await?;
    let own = kind.values(&json!({ "enabled": true, "image": { "digest": digest, "tag": "" } }));
    kind.upgrade(&parent()?, &json!({ "weft": own }), &["--wait", "--timeout", "4m"]).await?;
    kind.settled().await?;
    for pod in kind.pods_of(names::AGENT).await? {
        let images: Vec<_> = pod.spec.into_iter().flat_map(|spec| spec.containers).filter_map(|it| it.image).collect();
        ensure!(images.iter().all(|image| image.ends_with(&digest)), "its images are {images:?}");
    }
    kind.install(&json!({})).await?;
    streams.expect_no_loss().await
});
