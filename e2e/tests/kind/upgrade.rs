//! Upgrades and rollbacks through Helm, one program after the other, under 1,000 packets a second.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use serde_json::json;
use weft_api::names;
use weft_e2e::{kind::Kind, kind_test};

use crate::streams::Streams;

/// The pods of both programs.
async fn pods(kind: &Kind) -> Result<Vec<String>> {
    let mut pods = Vec::new();
    for program in [names::CONTROLLER, names::AGENT] {
        pods.extend(kind.pods_of(program).await?.iter().map(ResourceExt::name_any));
    }
    Ok(pods)
}

kind_test!(a_rolling_upgrade_and_its_rollback_lose_no_packet, async |kind: &Kind| {
    let streams = Streams::start(kind, "upgrade").await?;
    let before = pods(kind).await?;
    let json = json!({ "controller": { "logFormat": "json" }, "agent": { "logFormat": "json" } });
    kind.install(&json).await?;
    let upgraded = pods(kind).await?;
    ensure!(upgraded.iter().all(|pod| !before.contains(pod)), "not all was replaced: {before:?}, {upgraded:?}");
    streams.pass().await;
    kind.rollback().await?;
    let back = pods(kind).await?;
    ensure!(back.iter().all(|pod| !upgraded.contains(pod)), "not all was replaced: {upgraded:?}, {back:?}");
    streams.expect_no_loss().await
});
