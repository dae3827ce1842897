//! The rendered chart in the hands of tools that apply manifests, over a release of Helm's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::ConfigMap};
use serde_json::json;
use weft_api::names::{AGENT, CA, CA_CERTIFICATE};
use weft_e2e::{
    kind::{
        Kind,
        description::directory,
        helm::{NAMESPACE, RELEASE, chart},
    },
    kind_test,
};

use crate::{hooks::refused, streams::Streams};

/// What `helm template` prints for this cluster, as a file.
async fn render(kind: &Kind, name: &str, words: &[&str]) -> Result<String> {
    let values = directory().join("rendered.values.json");
    std::fs::write(&values, kind.values(&json!({})).to_string())?;
    let (chart, values) = (chart(), values.to_string_lossy());
    let chart = chart.to_string_lossy();
    let begin = ["template", RELEASE, &chart, "--namespace", NAMESPACE, "--values", &values];
    let path = directory().join(name);
    std::fs::write(&path, kind.helm(&[&begin[..], words].concat()).await?)?;
    Ok(path.to_string_lossy().into_owned())
}

// `helm template … | kubectl apply -f -`, and the Job as an earlier version's chart rendered it.
kind_test!(the_rendered_chart_and_its_job_applied_by_kubectl_take_nothing_away, async |kind: &Kind| {
    let streams = Streams::start(kind, "kubectl").await?;
    let all = render(kind, "all.yaml", &[]).await?;
    kind.kubectl(&["apply", "--filename", &all]).await?;
    kind.settled().await?;
    let job = ["--set", "uninstall.render=true", "--show-only", "templates/uninstall.yaml"];
    kind.kubectl(&["apply", "--filename", &render(kind, "job.yaml", &job).await?]).await?;
    let ended = refused(kind).await;
    // The pods of `helm test` came along.
    let tests = render(kind, "test.yaml", &["--show-only", "templates/test.yaml"]).await?;
    kind.kubectl(&["delete", "--filename", &tests, "--ignore-not-found", "--grace-period=1"]).await?;
    ended?;
    kind.settled().await?;
    streams.expect_no_loss().await
});

// What the controllers write must not look like drift, nor be taken back by a tool that applies the chart again.
kind_test!(the_rendered_chart_shows_no_drift_under_server_side_apply, async |kind: &Kind| {
    let path = render(kind, "desired.yaml", &["--no-hooks"]).await?;
    let words = ["--server-side", "--field-manager=tool", "--force-conflicts", "--filename", &path];
    let words = |verb| [&[verb], &words[..]].concat();
    let maps = kind.own::<ConfigMap>();
    let before = maps.get(CA).await?.data;
    kind.kubectl(&words("diff")).await.context("the running cluster differs from the chart")?;
    kind.kubectl(&words("apply")).await?;
    let agents = kind.own::<DaemonSet>().get(AGENT).await?.metadata.generation;
    kind.settled().await?;
    // A new leader writes all that it writes at its beginning.
    let leader = kind.leader().await?;
    kind.kill(&leader).await?;
    kind.leader_other_than(&leader).await?;
    kind.settled().await?;
    kind.kubectl(&words("diff")).await.context("a controller writes what the chart owns")?;
    kind.kubectl(&words("apply")).await?;
    ensure!(kind.own::<DaemonSet>().get(AGENT).await?.metadata.generation == agents, "the agents were changed");
    let after = maps.get(CA).await?.data;
    let ca = |data: &Option<BTreeMap<String, String>>| data.as_ref().and_then(|data| data.get(CA_CERTIFICATE).cloned());
    ensure!(ca(&before).is_some() && ca(&after) == ca(&before), "the authority was taken away: {after:?}");
    kind.settled().await
});
