//! A cluster of one node: `./dev cluster up --workers 0`.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;
use weft_api::{VtepState, names};
use weft_e2e::{
    kind::{
        Kind, Node, Scene, Service,
        dns::{self, Record},
        scene::cluster_ip,
    },
    kind_test,
    lab::{
        echo::{Echo, Transport, exchange},
        wait,
    },
};

use crate::{
    traffic::{self, answers},
    uninstall::{nothing_is_left, restart_dns},
};

/// The node, which is the only one.
fn only(kind: &Kind) -> Result<&Node> {
    let mut nodes = kind.nodes();
    let node = nodes.next().context("there is no node")?;
    ensure!(nodes.next().is_none(), "this needs a cluster of one node: ./dev cluster up --workers 0");
    Ok(node)
}

kind_test!(pods_services_names_and_the_outside_work_on_a_single_node, async |kind: &Kind| {
    let node = only(kind)?;
    let replicas = kind.own::<Deployment>().get(names::CONTROLLER).await?.spec.and_then(|spec| spec.replicas);
    ensure!(replicas == Some(1), "{replicas:?} controllers are wanted, and one finds room");
    kind.told(node.name(), &[VtepState::Ready]).await?;
    let scene = Scene::set(kind, "single").await?;
    let (client, server) = (scene.pod("client", node).await?, scene.pod("web", node).await?);
    let service = scene.service(&Service::new("web", "web"), 1).await?;
    let resolver = traffic::dns(kind).await?;
    for family in kind.families() {
        let to = cluster_ip(&service, family, 80)?;
        let name = format!("web.{}.svc.cluster.local", scene.name());
        let found = wait::until("the service's name", wait::PATIENCE, async || {
            dns::ask(client.net(), resolver, &name, dns::Kind::of(family)).await
        })
        .await?;
        ensure!(found == [Record::Address(to.ip())], "{name} is {found:?}, not {to}");
        // From another pod, from itself, from the node.
        for from in [client.net(), server.net(), node.net()] {
            answers(from, to).await?;
        }
        client.reaches(server.address(family)).await?;
        let outside =
            Echo::start(kind.router(), Transport::Tcp, (kind.router_address(node.subnet(), family)?, 0).into())?;
        exchange(client.net(), Transport::Tcp, outside.address(), b"who am I").await?;
        let seen = outside.peers().first().context("nobody asked")?.ip();
        ensure!(seen == node.address(&kind.client(), family).await?, "outside sees the pod as {seen}");
    }
    scene.end().await
});

kind_test!(a_single_node_is_uninstalled_and_installed_again, async |kind: &Kind| {
    only(kind)?;
    kind.uninstall().await?;
    let left = nothing_is_left(kind).await;
    kind.install(&json!({})).await?;
    left?;
    restart_dns(kind).await
});
