//! `weft-controller uninstall`: asks the leading controller to clean up, and follows how that goes.
//!
//! Owns the request, which it renews for as long as it runs, and the lines that people see; it runs before the chart's objects
//! are deleted. Must never remove anything itself, nor call a cluster clean that the leader has not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::ConfigMap},
    serde_json,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};
use weft_api::{Uninstall, UninstallRequest, UninstallState, names};

use super::request::told;
use crate::config::duration;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Between two renewals of the request; the leader calls off after a minute without.
const RENEW: Duration = Duration::from_secs(3);
/// Before its Job's deadline, so that the reason can be read before Kubernetes ends the pod without one.
const BEFORE_DEADLINE: Duration = Duration::from_secs(15);
/// What to do where nodes keep it from its end.
const REMEDY: &str = "start their agents, or delete their Nodes where the machines are gone, and uninstall again. \
    `helm uninstall --no-hooks` gives up on them and leaves on them what Weft made";

/// Options of `weft-controller uninstall`.
#[derive(Debug, Clone, clap::Args)]
pub struct UninstallOptions {
    /// Namespace of the release
    #[arg(long, env = "POD_NAMESPACE", default_value = "weft-system")]
    namespace: String,
    /// The release's name: Helm has to say that it uninstalls it
    #[arg(long)]
    release: String,
    /// The release's revision with which this was rendered
    #[arg(long)]
    revision: u32,
    /// The Job that runs this: it ends 15s before the Job's deadline
    #[arg(long)]
    job: Option<String>,
    /// How long every node together may take
    #[arg(long, default_value = "4m", value_parser = duration)]
    timeout: Duration,
}

/// Has every node cleaned up. Fails where one is not within the time, where nobody answers, or where the leader refuses.
pub async fn uninstall(options: UninstallOptions) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no way to the API server: in a pod or with KUBECONFIG only")?;
    let time = allowed(&client, &options).await;
    follow(client, &options, time, &mut |line| println!("{line}")).await
}

/// The time that is left of the Job's, where that is less than was asked for.
async fn allowed(client: &Client, options: &UninstallOptions) -> Duration {
    let Some(job) = &options.job else { return options.timeout };
    let jobs = Api::<Job>::namespaced(client.clone(), &options.namespace);
    let left = match jobs.get(job).await {
        Ok(job) => left(&job, SystemTime::now()),
        Err(error) => {
            println!("Job {job} cannot be read ({error}): its deadline is not known");
            None
        }
    };
    left.map_or(options.timeout, |left| left.min(options.timeout))
}

fn left(job: &Job, now: SystemTime) -> Option<Duration> {
    let limit = u64::try_from(job.spec.as_ref()?.active_deadline_seconds?).ok()?;
    let began = SystemTime::from(job.status.as_ref()?.start_time.as_ref()?.0);
    let passed = now.duration_since(began).unwrap_or_default();
    Some(Duration::from_secs(limit).saturating_sub(BEFORE_DEADLINE).saturating_sub(passed))
}

async fn follow(
    client: Client,
    options: &UninstallOptions,
    time: Duration,
    say: &mut dyn FnMut(&str),
) -> anyhow::Result<()> {
    let maps = Api::<ConfigMap>::namespaced(client, &options.namespace);
    let deadline = Instant::now() + time;
    let (mut seen, mut request) = (Seen::new(options), Request::new(options));
    loop {
        match timeout_at(deadline, request.look(&maps)).await {
            Ok(Ok(Some(progress))) if progress.state == UninstallState::Done => {
                say(&progress.to_string());
                return Ok(());
            }
            Ok(Ok(Some(progress))) if progress.state == UninstallState::Refused => anyhow::bail!("{progress}"),
            Ok(Ok(progress)) => seen.progress(progress, say),
            Ok(Err(Failed::ForGood(error))) => return Err(error),
            Ok(Err(Failed::ForNow(error))) => seen.line(format!("the API server does not answer: {error}"), say),
            Err(_) => return Err(seen.too_late(time)),
        }
        if timeout_at(deadline, sleep(LOOK)).await.is_err() {
            return Err(seen.too_late(time));
        }
    }
}

enum Failed {
    ForNow(kube::Error),
    ForGood(anyhow::Error),
}

/// What is asked, and when that was said last.
struct Request {
    namespace: String,
    said: UninstallRequest,
    renewed: Option<Instant>,
}

impl Request {
    fn new(options: &UninstallOptions) -> Self {
        let (release, revision) = (options.release.clone(), options.revision);
        // Another process must not be taken for this one.
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let by = format!("{:x}-{:x}", began.as_nanos(), std::process::id());
        let said = UninstallRequest { release, revision, by, beat: 0 };
        Self { namespace: options.namespace.clone(), said, renewed: None }
    }

    /// How it stands; says first what is asked, where that is due.
    async fn look(&mut self, maps: &Api<ConfigMap>) -> Result<Option<Uninstall>, Failed> {
        let map = maps.get_opt(names::CLUSTER).await.map_err(|error| failed(error, &self.namespace))?;
        let Some(map) = map else {
            return Err(Failed::ForGood(anyhow::anyhow!(
                "ConfigMap {} is not in namespace {}: is Weft installed there? Where it was removed by hand, `helm uninstall --no-hooks` removes the rest",
                names::CLUSTER,
                self.namespace
            )));
        };
        let is_first = self.renewed.is_none();
        if self.renewed.is_none_or(|at| at.elapsed() >= RENEW) {
            self.renew(maps, is_first).await.map_err(|error| failed(error, &self.namespace))?;
        }
        // What an earlier attempt came to is not an answer to this one.
        Ok(if is_first { None } else { told(&map) })
    }

    async fn renew(&mut self, maps: &Api<ConfigMap>, is_first: bool) -> kube::Result<()> {
        self.said.beat += 1;
        let value = serde_json::to_string(&self.said).expect("plain data");
        let mut patch = json!({ "metadata": { "annotations": { names::UNINSTALL_ANNOTATION: value } } });
        if is_first {
            patch["data"] = json!({ names::UNINSTALL: null });
        }
        maps.patch(names::CLUSTER, &PatchParams::default(), &Patch::Merge(patch)).await?;
        self.renewed = Some(Instant::now());
        Ok(())
    }
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

/// How a release goes on whose uninstallation failed. Helm's own choice would be the revision before, which may never have run.
fn way_back(options: &UninstallOptions) -> String {
    let UninstallOptions { namespace, release, revision, .. } = options;
    format!(
        "To keep Weft instead: `helm rollback {release} {revision} -n {namespace}`, which the release needs before it can be \
         upgraded again; nodes that were clean are programmed again a minute after this has ended"
    )
}

/// What was seen last, so that each line comes once.
struct Seen {
    way_back: String,
    last: Option<Uninstall>,
    line: String,
}

impl Seen {
    fn new(options: &UninstallOptions) -> Self {
        Self { way_back: way_back(options), last: None, line: String::new() }
    }

    fn progress(&mut self, progress: Option<Uninstall>, say: &mut dyn FnMut(&str)) {
        let line = match &progress {
            None => "asked the controller to clean up every node; waiting for its answer".to_owned(),
            Some(progress) => progress.to_string(),
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
        let way_back = &self.way_back;
        match &self.last {
            None => anyhow::anyhow!(
                "no controller has answered within {time:?}: at least one has to run; see the logs of Deployment {}; last: {}. {way_back}",
                names::CONTROLLER,
                self.line
            ),
            Some(progress) => anyhow::anyhow!("not clean after {time:?}: {progress}: {REMEDY}. {way_back}"),
        }
    }
}

#[cfg(test)]
mod tests;
