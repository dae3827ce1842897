//! The demo: the main job from beginning to end, shown and proven.
//!
//! Owns the order of the show and its verdict. What it claims it has measured: paths come from captures, repairs from
//! reading the kernel, peers from the `weft` command.

mod outcome;
mod pairs;
mod repair;
mod screen;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_core::types::Family;

pub use outcome::{Outcome, Pair, Repair};
pub use screen::Screen;

use crate::{
    cluster::{Cluster, Pod},
    lab::{CONTROL, LabSpec, sandbox, throughput::throughput},
};

/// Pods on each node.
const PODS: usize = 2;

/// Runs the demo. `outcome` holds what was found so far, also where it fails.
///
/// # Errors
/// Where something does not work as it should.
pub async fn run(screen: &Screen, outcome: &mut Outcome) -> Result<Cluster> {
    let cluster = build(screen).await?;
    let pods = attach(screen, &cluster).await?;
    screen.section("Every pod reaches every other");
    pairs::measure(screen, &cluster, &pods, outcome).await?;
    bulk(screen, &pods).await?;
    screen.section("What the operator sees: weft peers");
    outcome.peers = cluster.controller().weft().json(&["peers"]).await?;
    screen.text(&cluster.controller().weft().run(&["peers"]).await?);
    screen.section("A foreign hand deletes kernel entries, the agent puts them back");
    repair::show(screen, &cluster, &pods, outcome).await?;
    outcome.ok = outcome.pairs.iter().all(|pair| pair.ok) && outcome.repairs.iter().all(|repair| repair.repaired);
    ensure!(outcome.ok, "not everything worked; see above");
    // The pods stay for as long as the cluster is looked at.
    std::mem::forget(pods);
    Ok(cluster)
}

/// What to try in a lab that is kept.
pub fn invite(screen: &Screen, cluster: &Cluster) {
    let program = std::env::current_exe().map_or_else(|_| "weft-lab".to_owned(), |path| path.display().to_string());
    let node = cluster.lab().node_names().into_iter().next().unwrap_or_default();
    screen.section("The lab stays up until Ctrl-C; in another terminal try");
    for (what, command) in [
        ("the peer list of the whole cluster", format!("{CONTROL} weft peers")),
        ("the same, as it changes", format!("{CONTROL} weft peers --watch")),
        ("what one node's kernel holds", format!("{node} weft peers --output wide")),
        ("how its agent stands", format!("{node} weft status")),
        ("its routes, where iproute2 is installed", format!("{node} ip route show proto 87")),
        ("a shell on a node", format!("{node} sh")),
        ("all namespaces, pods among them", format!("{node} ls {}", sandbox::NETNS)),
    ] {
        screen.line(&format!("  {what}:\n    {program} in {command}"));
    }
}

async fn build(screen: &Screen) -> Result<Cluster> {
    screen.section("Two subnets, a router between them, one controller, four nodes");
    let cluster = Cluster::empty(LabSpec::default()).await?;
    screen.line("  the controller is up; the router forwards IPv4 and IPv6 and has no route to any pod");
    for node in cluster.lab().node_names() {
        cluster.join(&node).await?;
    }
    cluster.ready().await?;
    let peers = cluster.controller().weft().peers().await?;
    for node in cluster.lab().node_names() {
        let host = cluster.lab().host(&node);
        let addresses: Vec<_> = host.addresses().iter().map(ToString::to_string).collect();
        let peer = peers.iter().find(|peer| peer.node == node);
        let cidrs = peer.with_context(|| format!("{node} is not in the peer list"))?.pod_cidrs.join(", ");
        screen.line(&format!("  node {node} in subnet {}: {:<32} pods: {cidrs}", host.subnet(), addresses.join(", ")));
    }
    Ok(cluster)
}

async fn attach(screen: &Screen, cluster: &Cluster) -> Result<Vec<Pod>> {
    screen.section("Pods, attached by the CNI plugin as a container runtime does");
    let mut pods = Vec::new();
    for node in cluster.lab().node_names() {
        for number in 1..=PODS {
            let pod = cluster.pod(&node, &format!("{node}-p{number}")).await?;
            let addresses: Vec<_> = pod.addresses().iter().map(ToString::to_string).collect();
            screen.line(&format!("  pod {} on {node}: {}", pod.name(), addresses.join(", ")));
            pods.push(pod);
        }
    }
    Ok(pods)
}

async fn bulk(screen: &Screen, pods: &[Pod]) -> Result<()> {
    let first = pods.first().context("no pods")?;
    let in_subnet = |other: &&Pod| other.host().subnet() == first.host().subnet();
    let beside = pods.iter().find(|pod| in_subnet(pod) && pod.host().name() != first.host().name());
    let beyond = pods.iter().find(|pod| !in_subnet(pod));
    let mut parts = Vec::new();
    for (what, pod) in [("through VXLAN", beyond), ("on the plain route", beside)] {
        let pod = pod.context("no pod there")?;
        let bits = throughput(first.net(), pod.net(), pod.address(Family::V4), Duration::from_secs(1)).await?;
        parts.push(format!("{what} {:.1} Gbit/s", bits / 1e9));
    }
    screen.line(&format!(
        "\n  one TCP connection: {} (the lab's wires are memory: compare, do not quote)",
        parts.join(", ")
    ));
    Ok(())
}
