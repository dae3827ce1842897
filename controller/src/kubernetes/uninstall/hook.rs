//! `weft-controller uninstall`: asks the leading controller to clean up, and follows how that goes.
//!
//! Owns the request and the lines that people see of it; it runs before the chart's objects are deleted. Must never
//! remove anything itself, nor call a cluster clean that the leader has not.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::{api::core::v1::ConfigMap, serde_json};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};
use weft_api::{Uninstall, UninstallState, names};

use super::asks;
use crate::config::duration;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Nodes that a line names before it counts the rest.
const NAMED: usize = 5;
/// What to do where it does not come to an end.
const REMEDY: &str = "start their agents, or delete their Nodes where the machines are gone, and uninstall again; \
    `helm uninstall --no-hooks` gives up on them and leaves on them what Weft made";

/// Options of `weft-controller uninstall`.
#[derive(Debug, Clone, clap::Args)]
pub struct UninstallOptions {
    /// Namespace of the release
    #[arg(long, env = "POD_NAMESPACE", default_value = "weft-system")]
    namespace: String,
    /// How long every node together may take
    #[arg(long, default_value = "5m", value_parser = duration)]
    timeout: Duration,
}

/// Has every node cleaned up. Fails where one is not within the time, or where nobody answers.
pub async fn uninstall(options: UninstallOptions) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no way to the API server: in a pod or with KUBECONFIG only")?;
    follow(client, &options, &mut |line| println!("{line}")).await
}

async fn follow(client: Client, options: &UninstallOptions, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client, &options.namespace);
    let deadline = Instant::now() + options.timeout;
    let mut seen = Seen::default();
    loop {
        match timeout_at(deadline, look(&maps, &options.namespace)).await {
            Ok(Ok(Some(progress))) if progress.state == UninstallState::Done => {
                say(&format!("done: nothing of Weft is left, {} nodes were cleaned up", progress.cleaned.len()));
                return Ok(());
            }
            Ok(Ok(progress)) => seen.progress(progress, say),
            Ok(Err(Failed::ForGood(error))) => return Err(error),
            Ok(Err(Failed::ForNow(error))) => seen.line(format!("the API server does not answer: {error}"), say),
            Err(_) => return Err(seen.too_late(options.timeout)),
        }
        if timeout_at(deadline, sleep(LOOK)).await.is_err() {
            return Err(seen.too_late(options.timeout));
        }
    }
}

enum Failed {
    ForNow(kube::Error),
    ForGood(anyhow::Error),
}

/// How it stands; asks for it first where nobody has.
async fn look(maps: &Api<ConfigMap>, namespace: &str) -> Result<Option<Uninstall>, Failed> {
    let map = maps.get_opt(names::CLUSTER).await.map_err(|error| failed(error, namespace))?;
    let Some(map) = map else {
        return Err(Failed::ForGood(anyhow::anyhow!(
            "ConfigMap {} is not in namespace {namespace}: is Weft installed there? Where it was removed by hand, `helm uninstall --no-hooks` removes the rest",
            names::CLUSTER
        )));
    };
    if !asks(&map) {
        // What an earlier attempt came to is not an answer to this one.
        let annotations = json!({ names::UNINSTALL_ANNOTATION: names::UNINSTALL_REQUESTED });
        let patch = json!({ "metadata": { "annotations": annotations }, "data": { names::UNINSTALL: null } });
        let patched = maps.patch(names::CLUSTER, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map_err(|error| failed(error, namespace))?;
        return Ok(None);
    }
    let text = map.data.and_then(|mut data| data.remove(names::UNINSTALL));
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn failed(error: kube::Error, namespace: &str) -> Failed {
    match error {
        kube::Error::Api(status) if status.code == 401 || status.code == 403 => Failed::ForGood(anyhow::anyhow!(
            "ConfigMap {} in namespace {namespace}: {}; this account needs the verbs get and patch for it",
            names::CLUSTER,
            status.message
        )),
        error => Failed::ForNow(error),
    }
}

/// What was seen last, so that each line comes once.
#[derive(Default)]
struct Seen {
    last: Option<Uninstall>,
    line: String,
}

impl Seen {
    fn progress(&mut self, progress: Option<Uninstall>, say: &mut dyn FnMut(&str)) {
        let line = match &progress {
            None => "asked the controller to clean up every node; waiting for its answer".to_owned(),
            Some(progress) => {
                let (cleaned, waiting) = (progress.cleaned.len(), progress.waiting.len());
                format!("{cleaned} of {} nodes are clean{}", cleaned + waiting, named("; waiting for ", progress))
            }
        };
        self.last = progress;
        self.line(line, say);
    }

    fn line(&mut self, line: String, say: &mut dyn FnMut(&str)) {
        if self.line != line {
            say(&line);
            self.line = line;
        }
    }

    fn too_late(&self, time: Duration) -> anyhow::Error {
        match &self.last {
            None => anyhow::anyhow!(
                "no controller has answered within {time:?}: at least one has to run; see the logs of Deployment {}; last: {}",
                names::CONTROLLER,
                self.line
            ),
            Some(progress) => {
                anyhow::anyhow!("not clean after {time:?}{}: {REMEDY}", named("; still waiting for ", progress))
            }
        }
    }
}

fn named(before: &str, progress: &Uninstall) -> String {
    let names: Vec<String> =
        progress.waiting.iter().take(NAMED).map(|one| format!("{} ({})", one.node, one.why)).collect();
    match progress.waiting.len().saturating_sub(NAMED) {
        _ if names.is_empty() => String::new(),
        0 => format!("{before}{}", names.join(", ")),
        more => format!("{before}{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
