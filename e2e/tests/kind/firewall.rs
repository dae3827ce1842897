//! Foreign hands on a node: a firewall that is loaded anew, a route that is deleted. All of it comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use weft_e2e::{
    kind::{Kind, Node, Scene, Service, scene::cluster_ip},
    kind_test,
    lab::wait,
};

use crate::{kube_proxy::KubeProxy, traffic::answers};

/// How soon Weft puts back what is its own, with room for a busy machine; the drift tests measure it.
const SOON: Duration = Duration::from_secs(5);

/// Weft's own rules on a node, without what counts.
async fn rules(node: &Node) -> Result<String> {
    node.run(&["nft", "--stateless", "list", "table", "inet", "weft"]).await
}

/// Waits until the rules are again as they were.
async fn back(node: &Node, before: &str) -> Result<()> {
    let start = Instant::now();
    wait::until("Weft's rules to be back", SOON, async || {
        ensure!(rules(node).await? == before, "they differ");
        Ok(())
    })
    .await?;
    println!("Weft's rules on {} were back after {:?}", node.name(), start.elapsed());
    Ok(())
}

kind_test!(after_a_reload_of_the_firewall_all_is_as_before, async |kind: &Kind| {
    let scene = Scene::set(kind, "firewall").await?;
    let [here, there] = kind.across();
    let (client, server) = (scene.pod("client", here).await?, scene.pod("web", there).await?);
    let service = scene.service(&Service::new("web", "web"), 1).await?;
    let before = [rules(here).await?, rules(there).await?];
    let reloads = [
        "for t in nat mangle filter; do for i in iptables ip6tables; do $i -w -t $t -F; $i -w -t $t -X; done; done",
        "nft delete table inet weft",
        "nft flush ruleset",
    ];
    for reload in reloads {
        for (node, before) in [here, there].into_iter().zip(&before) {
            // A chain that kube-proxy's rules lead to cannot be deleted in the first round; a reload does not mind.
            node.sh(&format!("{reload}; true")).await?;
            back(node, before).await.with_context(|| format!("{reload} on {}", node.name()))?;
        }
        for family in kind.families() {
            client.reaches(server.address(family)).await.with_context(|| reload.to_owned())?;
        }
        // kube-proxy notices within half a minute where it uses iptables; of its own tables it looks at changes only.
        if kind.description().proxy_mode == "nftables" {
            KubeProxy::of(kind).restart().await?;
        }
        for family in kind.families() {
            answers(client.net(), cluster_ip(&service, family, 80)?).await.with_context(|| reload.to_owned())?;
            answers(here.net(), cluster_ip(&service, family, 80)?).await.with_context(|| reload.to_owned())?;
        }
    }
    scene.end().await
});

kind_test!(a_deleted_route_comes_back, async |kind: &Kind| {
    let scene = Scene::set(kind, "route").await?;
    let [here, there] = kind.across();
    let (client, server) = (scene.pod("client", here).await?, scene.pod("server", there).await?);
    let cidrs = there.object(&kind.client()).await?.spec.and_then(|spec| spec.pod_cidrs).unwrap_or_default();
    ensure!(cidrs.len() == kind.families().len(), "{} has {cidrs:?}", there.name());
    let wire = here.net().wire();
    for cidr in &cidrs {
        let network: IpNetwork = cidr.parse()?;
        let share = (network.network(), network.prefix());
        let routes = wire.routes_to(share).await?;
        ensure!(routes.len() == 1, "{} routes to {cidr}", routes.len());
        for route in routes {
            wire.delete_route(route).await?;
        }
        wait::until("the route to be back", SOON, async || {
            ensure!(wire.routes_to(share).await?.len() == 1, "there is none");
            Ok(())
        })
        .await?;
    }
    for family in kind.families() {
        client.reaches(server.address(family)).await?;
    }
    scene.end().await
});
