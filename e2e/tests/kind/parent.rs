//! Weft as a part of another chart, whose release has another name.

use anyhow::Result;
use serde_json::json;
use weft_e2e::{
    kind::{Kind, Scene, description::directory, helm::NAMESPACE},
    kind_test,
};

use crate::{
    life::parent,
    uninstall::{nothing_is_left, restart_dns},
};

/// The release of the parent chart.
const PARENT: &str = "parent";

async fn install(kind: &Kind) -> Result<()> {
    let values = directory().join("parent.values.json");
    let all = json!({ "global": { "site": "x" }, "weft": kind.values(&json!({ "enabled": true })) });
    std::fs::write(&values, all.to_string())?;
    let (chart, values) = (parent()?, values.to_string_lossy());
    let words = ["install", PARENT, &chart.to_string_lossy(), "--namespace", NAMESPACE, "--create-namespace"];
    kind.helm(&[&words[..], &["--values", &values, "--wait", "--timeout", "4m"]].concat()).await?;
    kind.settled().await
}

async fn pods_reach_each_other(kind: &Kind) -> Result<()> {
    let scene = Scene::set(kind, "parent").await?;
    let pods = scene.pods_of("web", &kind.across()).await?;
    for family in kind.families() {
        pods[0].reaches(pods[1].address(family)).await?;
    }
    scene.end().await
}

// Helm's proof of an uninstallation is the record of that release.
kind_test!(a_parents_release_brings_it_and_takes_all_of_it_away, async |kind: &Kind| {
    kind.uninstall().await?;
    let ran = async {
        install(kind).await?;
        pods_reach_each_other(kind).await
    };
    let ran = ran.await;
    let gone = kind.helm(&["uninstall", PARENT, "--namespace", NAMESPACE, "--wait", "--timeout", "4m"]).await;
    let left = nothing_is_left(kind).await;
    kind.install(&json!({})).await?;
    restart_dns(kind).await?;
    ran?;
    gone?;
    left.map(drop)
});
