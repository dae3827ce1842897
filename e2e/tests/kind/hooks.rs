//! Weft's uninstallation hook, made an object by others than `helm uninstall`, under 1,000 packets a second.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use serde_json::json;
use weft_e2e::{
    kind::{
        Kind,
        description::directory,
        helm::{NAMESPACE, RELEASE, chart},
        wait,
    },
    kind_test,
};

use crate::streams::Streams;

/// The hook's Job.
pub(crate) const JOB: &str = "weft-uninstall";
/// An image that no node has at first.
pub(crate) const LATE: &str = "docker.io/library/weft:late";

/// Applies manifests as an operator does.
async fn apply(kind: &Kind, manifests: &str) -> Result<()> {
    let path = directory().join("applied.yaml");
    std::fs::write(&path, manifests)?;
    let words = ["apply", "--filename", &path.to_string_lossy(), "--server-side", "--force-conflicts"];
    kind.kubectl(&words).await.map(drop)
}

/// The Job as the release has it.
async fn hook(kind: &Kind) -> Result<String> {
    let hooks = kind.helm(&["get", "hooks", RELEASE, "--namespace", NAMESPACE]).await?;
    let job = hooks.split("\n---\n").find(|object| object.contains("kind: Job") && object.contains(JOB));
    Ok(job.context("the release has no hook")?.to_owned())
}

/// Waits until the Job has failed, takes it away, and looks at what it said.
pub(crate) async fn refused(kind: &Kind) -> Result<()> {
    let jobs = kind.own::<Job>();
    let ended = wait::object(&jobs, JOB, "the Job to fail", wait::PATIENCE, |job| {
        let failed = job.and_then(|job| job.status.as_ref()?.failed);
        failed.filter(|failed| *failed > 0).context("it has not failed")
    })
    .await;
    let said = kind.kubectl(&["logs", "--namespace", NAMESPACE, "job/weft-uninstall"]).await;
    jobs.delete(JOB, &DeleteParams::background()).await?;
    wait::gone(&jobs, JOB, wait::PATIENCE).await?;
    ended?;
    let said = said?;
    ensure!(said.contains("is deployed") && said.contains("weft uninstall --kubernetes"), "{said}");
    Ok(())
}

// As every tool does that renders charts.
kind_test!(a_hook_that_somebody_applies_takes_nothing_away, async |kind: &Kind| {
    let streams = Streams::start(kind, "applied").await?;
    apply(kind, &hook(kind).await?).await?;
    refused(kind).await?;
    kind.settled().await?;
    streams.expect_no_loss().await
});

kind_test!(a_hook_that_starts_late_takes_nothing_away, async |kind: &Kind| {
    let streams = Streams::start(kind, "late").await?;
    let job = hook(kind).await?.replace("image: \"weft:dev\"", &format!("image: {LATE}"));
    ensure!(job.contains(LATE), "the hook has another image: {job}");
    apply(kind, &job).await?;
    streams.pass().await;
    // Somebody upgrades meanwhile, and the image comes.
    kind.install(&json!({ "agent": { "logFormat": "json" } })).await?;
    for node in kind.nodes() {
        node.run(&["ctr", "--namespace", "k8s.io", "images", "tag", "docker.io/library/weft:dev", LATE]).await?;
    }
    let ended = refused(kind).await;
    for node in kind.nodes() {
        node.run(&["ctr", "--namespace", "k8s.io", "images", "remove", LATE]).await?;
    }
    ended?;
    kind.settled().await?;
    streams.expect_no_loss().await
});

kind_test!(the_rendered_chart_applied_over_the_release_changes_nothing, async |kind: &Kind| {
    let streams = Streams::start(kind, "rendered").await?;
    let values = directory().join("rendered.values.json");
    std::fs::write(&values, kind.values(&json!({})).to_string())?;
    let chart = chart();
    let words = ["template", RELEASE, &chart.to_string_lossy(), "--namespace", NAMESPACE, "--no-hooks"];
    let with = ["--values", &values.to_string_lossy()];
    let rendered = kind.helm(&[&words[..], &with].concat()).await?;
    apply(kind, &rendered).await?;
    // What is applied is what is there: nobody else fights for a field of it.
    let path = directory().join("applied.yaml");
    let diff = ["diff", "--server-side", "--force-conflicts", "--filename", &path.to_string_lossy()];
    kind.kubectl(&diff).await.context("the chart and the cluster differ")?;
    kind.settled().await?;
    // The release is Helm's again.
    kind.install(&json!({})).await?;
    streams.expect_no_loss().await
});
