//! A dual-stack cluster; the journey's tests ask in both families there by themselves.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_core::types::Family;
use weft_e2e::{
    kind::{Kind, Pod, Scene, Service, scene::cluster_ip},
    kind_test,
    lab::{
        Capture,
        echo::{self, Echo, exchange},
        wait,
    },
};

use crate::{
    mtu::mtu,
    traffic::{Transport, answers, crossed_in_the_tunnel, seen_as_itself, tunnelled},
};

/// What IPv6, UDP, VXLAN and Ethernet headers leave of this cluster's underlay.
const MTU_OVER_V6: u32 = 1500 - (40 + 8 + 8 + 14);

kind_test!(pods_and_services_have_both_families_and_both_cross_the_router, async |kind: &Kind| {
    ensure!(kind.families().len() == 2, "this needs a dual-stack cluster: ./dev cluster up --ip-family dual");
    let scene = Scene::set(kind, "dual").await?;
    let [here, there] = kind.across();
    let (client, server) = (scene.pod("client", here).await?, scene.pod("web", there).await?);
    let both = json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } });
    let service = scene.service(&Service::new("web", "web").with(both), 1).await?;
    let router = kind.capture_at_router(there.subnet())?;
    for family in Family::ALL {
        let network = client.address(family);
        let spec = here.object(&kind.client()).await?.spec.context("a node without a spec")?;
        let shares: Vec<ipnetwork::IpNetwork> =
            spec.pod_cidrs.unwrap_or_default().iter().map(|cidr| cidr.parse()).collect::<Result<_, _>>()?;
        ensure!(shares.iter().any(|share| share.contains(network)), "{network} is not of {shares:?}");
        let to = cluster_ip(&service, family, 80)?;
        answers(client.net(), to).await?;
        router.clear()?;
        seen_as_itself(&client, to, Transport::Http).await?;
        seen_as_itself(&client, server.udp(family), Transport::Udp).await?;
        crossed_in_the_tunnel(&router, &client, &server, family)?;
    }
    scene.end().await
});

/// Pods reach each other in both families, both ways, in packets of any size, and cross the router over `outer` only.
async fn crosses_over(outer: Family, router: &Capture, pods: &[Pod; 2]) -> Result<()> {
    let [one, other] = pods;
    for family in Family::ALL {
        for (from, to) in [(one, other), (other, one)] {
            // A pod's interface keeps the MTU that it was made with: what is too long now has to be learned on the way.
            let echo = Echo::start(to.net(), echo::Transport::Tcp, (to.address(family), 0).into())?;
            exchange(from.net(), echo::Transport::Tcp, echo.address(), &vec![0x57; 1_000_000]).await?;
        }
        router.clear()?;
        one.reaches(other.address(family)).await?;
        crossed_in_the_tunnel(router, one, other, family)?;
        let [one, other] = [one, other].map(|pod| pod.address(family));
        router.expect_none("a tunnel packet of the other family", |packet| {
            let ours = tunnelled(packet, one, other) || tunnelled(packet, other, one);
            ours && Family::of(packet.ip.src) != outer
        })?;
    }
    Ok(())
}

kind_test!(the_tunnel_changes_to_ipv6_and_back_under_running_pods, async |kind: &Kind| {
    ensure!(kind.families().len() == 2, "this needs a dual-stack cluster: ./dev cluster up --ip-family dual");
    let scene = Scene::set(kind, "outer").await?;
    let [here, there] = kind.across();
    let router = kind.capture_at_router(there.subnet())?;
    let early = [scene.pod("early-client", here).await?, scene.pod("early-web", there).await?];
    // Nodes are told one after the other.
    let crosses = async |outer, pods: &[Pod; 2]| {
        wait::until("the tunnel's change", wait::PATIENCE, async || crosses_over(outer, &router, pods).await).await
    };
    crosses(Family::V4, &early).await?;
    kind.install(&json!({ "outerFamily": "ipv6" })).await?;
    let looked = async {
        crosses(Family::V6, &early).await?;
        let late = [scene.pod("late-client", here).await?, scene.pod("late-web", there).await?];
        for pod in &late {
            let mtu = mtu(pod).await?;
            ensure!(mtu == MTU_OVER_V6, "pod {} has an MTU of {mtu} instead of {MTU_OVER_V6}", pod.name());
        }
        crosses_over(Family::V6, &router, &late).await?;
        anyhow::Ok(late)
    };
    let late = looked.await;
    kind.install(&json!({})).await?;
    crosses(Family::V4, &early).await?;
    crosses_over(Family::V4, &router, &late?).await?;
    scene.end().await
});
