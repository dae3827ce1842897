//! Has the pods of a DaemonSet call each other, and tells what came of it.
//!
//! Owns what is asked of the Kubernetes API: the DaemonSet, its pods, and the Vteps. Must never change anything there.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use kube::{Api, Client, api::ListParams, runtime::wait::await_condition};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use weft_api::Vtep;

use super::{
    PodsArgs,
    pairs::{TestPod, is_across, pairs, targets},
    talk,
};

/// How many pairs talk at a time.
const AT_A_TIME: usize = 32;
/// A pod that was Ready a moment ago may yet be moved: a pair that failed is tried again.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// What one pair found in one family.
struct Found {
    from: usize,
    to: usize,
    address: std::net::IpAddr,
    outcome: Result<Duration, String>,
}

/// What is asked of the API.
struct Cluster {
    sets: Api<DaemonSet>,
    pods: Api<Pod>,
}

pub(super) async fn run(namespace: &str, args: &PodsArgs) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no Kubernetes API is configured: this runs in a pod")?;
    println!("waiting for a pod of DaemonSet {} on each node", args.daemonset);
    let api =
        Cluster { sets: Api::namespaced(client.clone(), namespace), pods: Api::namespaced(client.clone(), namespace) };
    let selector = api.wait(args).await?;
    let pods = Arc::new(api.list(client, &selector).await?);
    anyhow::ensure!(!pods.is_empty(), "DaemonSet {} has no pod with an address", args.daemonset);
    println!("pods on {} nodes call each other", pods.len());
    let found = talk_all(&pods, args).await;
    report(&pods, &found)
}

impl Cluster {
    /// Waits until all pods of the DaemonSet are ready; the labels that select them.
    async fn wait(&self, args: &PodsArgs) -> anyhow::Result<String> {
        let name = &args.daemonset;
        match timeout(args.timeout, await_condition(self.sets.clone(), name, is_ready)).await {
            Ok(result) => drop(result.with_context(|| format!("DaemonSet {name} cannot be watched"))?),
            Err(_) => anyhow::bail!("{}", self.not_ready(args).await?),
        }
        self.selector(name).await
    }

    async fn selector(&self, name: &str) -> anyhow::Result<String> {
        let set = self.sets.get(name).await.with_context(|| format!("DaemonSet {name} cannot be read"))?;
        let labels = set.spec.and_then(|spec| spec.selector.match_labels).unwrap_or_default();
        Ok(labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
    }

    /// Which pods kept us waiting.
    async fn not_ready(&self, args: &PodsArgs) -> anyhow::Result<String> {
        let selector = self.selector(&args.daemonset).await?;
        let pods = self.pods.list(&ListParams::default().labels(&selector)).await?;
        let mut lines = vec![format!("not all pods are ready after {} s:", args.timeout.as_secs())];
        for pod in pods.iter().filter(|pod| !answers(pod)) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node yet");
            lines.push(format!("  on {node}: {}", why(pod)));
        }
        lines.push("see `kubectl get vteps`, and `kubectl describe pod` of these".to_owned());
        Ok(lines.join("\n"))
    }

    /// The pods that answer, with what Weft knows of their nodes.
    async fn list(&self, client: Client, selector: &str) -> anyhow::Result<Vec<TestPod>> {
        let vteps: Api<Vtep> = Api::all(client);
        let vteps = vteps.list(&ListParams::default()).await.context("Vteps cannot be listed: is Weft installed?")?;
        let underlay = |vtep: Vtep| {
            let addresses = vtep.spec.underlay.iter().filter_map(|underlay| underlay.address.parse().ok()).collect();
            (vtep.metadata.name.unwrap_or_default(), addresses)
        };
        let underlay: BTreeMap<String, Vec<_>> = vteps.into_iter().map(underlay).collect();
        let pods = self.pods.list(&ListParams::default().labels(selector)).await.context("pods cannot be listed")?;
        let pod = |pod: &Pod| {
            let node = pod.spec.as_ref()?.node_name.clone()?;
            let ips = pod.status.as_ref()?.pod_ips.as_deref().unwrap_or_default();
            let addresses: Vec<_> = ips.iter().filter_map(|ip| ip.ip.parse().ok()).collect();
            let underlay = underlay.get(&node).cloned().unwrap_or_default();
            (!addresses.is_empty()).then_some(TestPod { node, addresses, underlay })
        };
        let mut pods: Vec<_> = pods.iter().filter(|pod| answers(pod)).filter_map(pod).collect();
        pods.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(pods)
    }
}

fn is_ready(set: Option<&DaemonSet>) -> bool {
    let Some((set, status)) = set.and_then(|set| set.status.as_ref().map(|status| (set, status))) else { return false };
    status.observed_generation >= set.metadata.generation
        && status.desired_number_scheduled > 0
        && status.number_ready == status.desired_number_scheduled
}

fn why(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let waiting = status
        .and_then(|status| status.container_statuses.as_deref().unwrap_or_default().first())
        .and_then(|container| container.state.as_ref()?.waiting.as_ref());
    let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
    let message = waiting.and_then(|waiting| waiting.message.as_deref()).unwrap_or_default();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("not started");
    format!("{} {message}", reason.unwrap_or(phase)).trim_end().to_owned()
}

fn answers(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn talk_all(pods: &Arc<Vec<TestPod>>, args: &PodsArgs) -> Vec<Found> {
    let (mut talks, turns) = (JoinSet::new(), Arc::new(Semaphore::new(AT_A_TIME)));
    for (from, to) in pairs(pods.len(), args.most) {
        for address in targets(&pods[from], &pods[to]) {
            let (turns, caller) = (Arc::clone(&turns), SocketAddr::new(pods[from].addresses[0], args.port));
            talks.spawn(async move {
                let _turn = turns.acquire_owned().await;
                Found { from, to, address, outcome: patiently(caller, address).await }
            });
        }
    }
    let mut found = talks.join_all().await;
    found.sort_by_key(|found| (found.from, found.to, found.address));
    found
}

async fn patiently(caller: SocketAddr, to: std::net::IpAddr) -> Result<Duration, String> {
    let mut outcome = Err(String::new());
    for attempt in 1..=ATTEMPTS {
        outcome = match talk::call(caller, to).await {
            Ok(answer) => answer,
            Err(error) => Err(format!("the calling pod {} does not answer this one: {error}", caller.ip())),
        };
        if outcome.is_ok() || attempt == ATTEMPTS {
            break;
        }
        sleep(PAUSE).await;
    }
    outcome
}

fn report(pods: &[TestPod], found: &[Found]) -> anyhow::Result<()> {
    let mut failed = 0;
    for Found { from, to, address, outcome } in found {
        if let Err(why) = outcome {
            failed += 1;
            println!("{} -> {} ({address}): {why}", pods[*from].node, pods[*to].node);
        }
    }
    anyhow::ensure!(
        failed == 0,
        "{failed} of {} ways between pods do not work, see above; `kubectl get vteps` may say why",
        found.len()
    );
    let across = found.iter().filter(|found| is_across(&pods[found.from], &pods[found.to]) == Some(true)).count();
    let slowest = found.iter().filter_map(|found| found.outcome.as_ref().ok()).max().copied().unwrap_or_default();
    if found.is_empty() {
        println!("there is one node: nothing to check between nodes");
    } else {
        println!(
            "all {} ways between pods work, {across} of them across subnets; slowest {slowest:.1?} for 64 KiB there and back",
            found.len()
        );
    }
    Ok(())
}
