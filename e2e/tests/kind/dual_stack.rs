//! A dual-stack cluster; the journey's tests ask in both families there by themselves.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_core::types::Family;
use weft_e2e::{
    kind::{Kind, Scene, Service, scene::cluster_ip},
    kind_test,
};

use crate::traffic::{Transport, answers, crossed_in_the_tunnel, seen_as_itself};

kind_test!(pods_and_services_have_both_families_and_both_cross_the_router, async |kind: &Kind| {
    ensure!(kind.families() == Family::ALL, "this needs a dual-stack cluster: ./dev cluster up --ip-family dual");
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
