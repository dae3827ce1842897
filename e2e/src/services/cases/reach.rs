//! Who reaches whom through which address of a Service, and as whom.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::{Result, bail, ensure};
use weft_core::types::Family;

use super::super::{
    backend::TRANSPORTS,
    objects::Service,
    report::Report,
    scene::{Answer, HERE, Scene, THERE},
};
use crate::lab::{
    Namespace, OUTSIDE,
    echo::{Transport, exchange},
};

/// A question, and how it has to be answered.
struct Question {
    what: &'static str,
    from: Arc<Namespace>,
    to: SocketAddr,
    wanted: Answer,
}

impl Question {
    fn new(
        what: &'static str,
        from: &Arc<Namespace>,
        to: SocketAddr,
        (backend, source, tunnelled): (&str, &str, bool),
    ) -> Self {
        let wanted = Answer { backend: backend.to_owned(), source: source.to_owned(), tunnelled };
        Self { what, from: Arc::clone(from), to, wanted }
    }

    /// Asks, and fails unless the answer is as told.
    async fn ask(&self, scene: &Scene) -> Result<String> {
        let answer = scene.ask(&self.from, self.to).await?;
        // "a1's" is any address of that node.
        let wanted = Answer { source: answer.source.clone(), ..self.wanted.clone() };
        let fits = answer == wanted && answer.source.starts_with(&self.wanted.source);
        ensure!(fits, "{answer}; it should be: {}", self.wanted);
        Ok(answer.to_string())
    }
}

/// As whom the far node shows to its own pods where it masquerades. Their IPv6 routes name its overlay address.
const fn there(family: Family) -> &'static str {
    match family {
        Family::V4 => "b1's own address",
        Family::V6 => "b1's overlay address",
    }
}

fn of_cluster_ip(scene: &Scene, family: Family) -> Vec<Question> {
    let (pod, host) = (scene.client.net(), &scene.cluster.lab().host(HERE).net());
    let services = &scene.services;
    let question = |what, from, service: &Service, wanted| Question::new(what, from, scene.at(service, family), wanted);
    vec![
        question("a pod, backend across the router", pod, &services.far, ("far", "pod client", true)),
        question("a pod, backend on its node", pod, &services.near, ("near", "pod client", false)),
        question("a host, backend across the router", host, &services.far, ("far", "a1's overlay address", true)),
        question("a host, backend on it", host, &services.near, ("near", "a1's", false)),
        question("a pod, backend is another host", pod, &services.host, ("b1's host", "a1's own address", false)),
        question("a host, backend is another host", host, &services.host, ("b1's host", "a1's own address", false)),
    ]
}

fn of_node_port(scene: &Scene, family: Family) -> Result<Vec<Question>> {
    let outside = &scene.cluster.lab().host(OUTSIDE).net();
    let (pod, host) = (scene.client.net(), &scene.cluster.lab().host(HERE).net());
    let (far, local) = (&scene.services.far, &scene.services.local);
    let there = there(family);
    let through = ("far", "a1's overlay address", true);
    [
        ("outside, at the other node", outside, far, HERE, through),
        ("outside, at the backend's node", outside, far, THERE, ("far", there, false)),
        (
            "outside, at the backend's node, policy Local",
            outside,
            local,
            THERE,
            ("far", "outside's own address", false),
        ),
        ("a pod, at its own node", pod, far, HERE, through),
        ("a pod, at the backend's node", pod, far, THERE, ("far", there, false)),
        ("a host, at itself", host, far, HERE, through),
        ("a host, at the backend's node", host, far, THERE, ("far", there, false)),
    ]
    .into_iter()
    .map(|(what, from, service, node, wanted)| {
        Ok(Question::new(what, from, scene.at_node(service, node, family)?, wanted))
    })
    .collect()
}

/// Everything that has one answer, once more; says how many questions that were.
pub(in super::super) async fn all(scene: &Scene) -> Result<usize> {
    let mut count = 0;
    for family in &scene.families {
        for question in of_cluster_ip(scene, *family).into_iter().chain(of_node_port(scene, *family)?) {
            question.ask(scene).await.map_err(|error| error.context(format!("{} ({family})", question.what)))?;
            count += TRANSPORTS.len();
        }
        itself(scene, *family).await?;
    }
    Ok(count)
}

/// By ClusterIP, from pods and hosts.
pub(in super::super) async fn cluster_ip(scene: &Scene, report: &mut Report, family: Family) {
    for question in of_cluster_ip(scene, family) {
        report.case(&format!("{} ({family})", question.what), async || question.ask(scene).await).await;
    }
    report.case(&format!("two backends take turns ({family})"), async || takes_turns(scene, family).await).await;
    report.case(&format!("a pod to itself by its own Service ({family})"), async || itself(scene, family).await).await;
}

/// Both backends answer within a few questions, and both see the pod itself.
async fn takes_turns(scene: &Scene, family: Family) -> Result<String> {
    let mut seen = BTreeMap::new();
    for transport in TRANSPORTS {
        for _ in 0..6 {
            let answer = scene.ask_over(scene.client.net(), transport, scene.at(&scene.services.both, family)).await?;
            ensure!(answer.source == "pod client", "{answer}");
            *seen.entry(answer.backend).or_insert(0) += 1;
        }
    }
    ensure!(seen.len() == 2, "only {seen:?} answered");
    let turns: Vec<_> = seen.iter().map(|(backend, count)| format!("{backend} {count} times")).collect();
    Ok(format!("{}, both see pod client", turns.join(", ")))
}

/// A pod that is the only backend of its own Service.
async fn itself(scene: &Scene, family: Family) -> Result<String> {
    let answer = scene.ask(scene.near.net(), scene.at(&scene.services.near, family)).await?;
    ensure!(answer.backend == "near" && !answer.tunnelled, "{answer}");
    ensure!(answer.source != "pod near", "it sees itself, and would answer by itself: {answer}");
    Ok(answer.to_string())
}

/// By NodePort, from outside, pods and hosts.
pub(in super::super) async fn node_port(scene: &Scene, report: &mut Report, family: Family) -> Result<()> {
    for question in of_node_port(scene, family)? {
        report.case(&format!("{} ({family})", question.what), async || question.ask(scene).await).await;
    }
    let what = format!("outside, at a node without a backend, policy Local ({family})");
    report.case(&what, async || without_a_local_backend(scene, family).await).await;
    Ok(())
}

/// With iptables and nftables kube-proxy drops it. With IPVS it leads to the backends elsewhere under the client's own address, which
/// could not be answered; but what enters the tunnel enters it under an overlay address.
async fn without_a_local_backend(scene: &Scene, family: Family) -> Result<String> {
    let outside = scene.cluster.lab().host(OUTSIDE).net();
    let to = scene.at_node(&scene.services.local, HERE, family)?;
    if scene.is_ipvs {
        let answer = scene.ask_over(&outside, Transport::Tcp, to).await?;
        ensure!(answer.source == "a1's overlay address", "{answer}");
        return Ok(answer.to_string());
    }
    match exchange(&outside, Transport::Tcp, to, b"anybody?").await {
        Ok(_) => bail!("somebody answers"),
        Err(error) => Ok(format!("no answer: {}", error.root_cause())),
    }
}
