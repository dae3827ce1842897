//! Services in every form that leads packets through the tunnel, as kube-proxy programs them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use k8s_openapi::api::core::v1;
use serde_json::json;
use weft_core::types::Family;
use weft_e2e::{
    kind::{Kind, Node, Pod, Scene, Service, http, scene::cluster_ip},
    kind_test,
};

use crate::{
    kube_proxy::KubeProxy,
    traffic::{self, Transport, answers, seen_as_itself},
};

/// What a stranger asks of a node: the service's port on it.
async fn node_port(kind: &Kind, node: &Node, service: &v1::Service, family: Family) -> Result<SocketAddr> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).context("a service without ports")?;
    let port = ports.iter().find(|port| port.name.as_deref() == Some("http")).and_then(|port| port.node_port);
    let port = u16::try_from(port.context("a service without a node port")?)?;
    Ok(SocketAddr::new(node.address(&kind.client(), family).await?, port))
}

/// The stranger is this machine, which is no node.
async fn stranger_sees(kind: &Kind, to: SocketAddr) -> Result<(IpAddr, IpAddr)> {
    traffic::seen_by_http(kind.router(), to).await
}

kind_test!(node_ports_answer_on_every_node_and_lead_through_the_tunnel, async |kind: &Kind| {
    let scene = Scene::set(kind, "node-port").await?;
    let [here, there] = kind.across();
    scene.pod("web", there).await?;
    let service = scene.service(&Service::new("web", "web").with(json!({ "spec": { "type": "NodePort" } })), 1).await?;
    let client = scene.pod("client", here).await?;
    for family in kind.families() {
        for node in kind.nodes() {
            let to = node_port(kind, node, &service, family).await?;
            answers(kind.router(), to).await?;
            // From a pod elsewhere, too.
            answers(client.net(), to).await?;
        }
    }
    scene.end().await
});

kind_test!(with_local_traffic_policy_the_client_is_seen_and_other_nodes_are_silent, async |kind: &Kind| {
    let scene = Scene::set(kind, "local-policy").await?;
    let [_, there] = kind.across();
    scene.pod("web", there).await?;
    let local = json!({ "spec": { "type": "NodePort", "externalTrafficPolicy": "Local" } });
    let service = scene.service(&Service::new("web", "web").with(local), 1).await?;
    for family in kind.families() {
        let to = node_port(kind, there, &service, family).await?;
        answers(kind.router(), to).await?;
        let (seen, own) = stranger_sees(kind, to).await?;
        ensure!(seen == own, "the pod sees {seen} instead of the client's {own}");
        // Silence takes its time to be sure of.
        let others = kind.nodes().filter(|node| node.name() != there.name()).map(async |node| {
            let to = node_port(kind, node, &service, family).await?;
            ensure!(http::get(kind.router(), to, "/hostname").await.is_err(), "{to} answers without having a pod");
            anyhow::Ok(())
        });
        join_all(others).await.into_iter().collect::<Result<()>>()?;
    }
    scene.end().await
});

/// Pods see each other under their own addresses through services, whatever kube-proxy takes for the cluster's pods.
async fn pods_keep_their_addresses(kind: &Kind, scene: &Scene, service: &v1::Service, clients: &[Pod]) -> Result<()> {
    for family in kind.families() {
        let http = cluster_ip(service, family, 80)?;
        for client in clients {
            answers(client.net(), http).await?;
            seen_as_itself(client, http, Transport::Http).await?;
            seen_as_itself(client, cluster_ip(service, family, 90)?, Transport::Udp).await?;
        }
        for node in kind.nodes() {
            answers(node.net(), http).await.with_context(|| format!("in {}", scene.name()))?;
        }
    }
    Ok(())
}

kind_test!(services_work_with_and_without_a_cluster_cidr, async |kind: &Kind| {
    let scene = Scene::set(kind, "cluster-cidr").await?;
    let [here, there] = kind.across();
    scene.pod("web", there).await?;
    let service = scene.service(&Service::new("web", "web"), 1).await?;
    let clients = scene.pods_of("client", &[here, there]).await?;
    pods_keep_their_addresses(kind, &scene, &service, &clients).await?;
    let proxy = KubeProxy::of(kind);
    let before = proxy.configuration().await?;
    let line =
        before.lines().find(|line| line.starts_with("clusterCIDR:")).context("no clusterCIDR is set")?.to_owned();
    let other = if line == "clusterCIDR: \"\"" { "clusterCIDR: 10.244.0.0/16" } else { "clusterCIDR: \"\"" };
    let changed = proxy.configure(&before.replace(&line, other)).await;
    let asked = match changed {
        Ok(()) => pods_keep_their_addresses(kind, &scene, &service, &clients).await,
        Err(error) => Err(error),
    };
    proxy.configure(&before).await?;
    asked.with_context(|| format!("with {other}"))?;
    scene.end().await
});
