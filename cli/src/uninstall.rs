//! `weft uninstall`: an operator has every node of a Kubernetes cluster cleaned up.
//!
//! Owns the request and the lines that people see of how it goes. Must never remove anything itself: the leading controller and
//! the agents do, and Helm or kubectl remove the rest.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use serde_json::json;
use tokio::time::{Instant, sleep};
use weft_api::{Uninstall, UninstallState, names};

use crate::{
    args::{KubernetesTarget, UninstallArgs},
    kubernetes::Cluster,
    output,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Asks, or takes the request back.
pub(crate) async fn run(target: &KubernetesTarget, args: &UninstallArgs) -> anyhow::Result<()> {
    let cluster = Cluster::new(target).await?;
    if args.call_off {
        cluster
            .change_cluster(&json!({ "metadata": { "annotations": { names::UNINSTALL_ANNOTATION: null } } }))
            .await?;
        return output::text("called off: nodes that were clean are programmed again\n");
    }
    let map = cluster.cluster().await?;
    // No manifest can hold it, so that no tool that applies manifests asks for this.
    let uid = map.uid().with_context(|| format!("ConfigMap {} has no UID", names::CLUSTER))?;
    let annotations = json!({ names::UNINSTALL_ANNOTATION: uid });
    cluster
        .change_cluster(&json!({ "metadata": { "annotations": annotations }, "data": { names::UNINSTALL: null } }))
        .await?;
    follow(&cluster, Duration::from_secs(args.timeout)).await
}

async fn follow(cluster: &Cluster, time: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + time;
    let mut said = String::new();
    loop {
        let progress = progress(&cluster.cluster().await?);
        let line = progress.as_ref().map_or_else(
            || "asked the controller to clean up every node; waiting for its answer".to_owned(),
            ToString::to_string,
        );
        if line != said {
            output::text(&format!("{line}\n"))?;
            said = line;
        }
        if progress.is_some_and(|progress| progress.state == UninstallState::Done) {
            return output::text("now remove Weft without its hook, such as by `helm uninstall --no-hooks`\n");
        }
        if Instant::now() >= deadline {
            bail!(
                "not clean after {time:?}; the request stays: run this again to wait on, or with --call-off to take it back"
            );
        }
        sleep(LOOK).await;
    }
}

fn progress(map: &ConfigMap) -> Option<Uninstall> {
    serde_json::from_str(map.data.as_ref()?.get(names::UNINSTALL)?).ok()
}
