//! A cache for DNS on a link-local address of each node, as node-local DNS is set up.

use anyhow::{Context, ensure};
use weft_core::types::Family;
use weft_e2e::{
    kind::{Kind, Scene},
    kind_test,
    lab::echo::{Echo, Transport, exchange},
};

/// The address that node-local DNS has by default, on a link of its own.
const ADDRESS: &str = "169.254.20.10";
const LINK: &str = "nodelocaldns";

kind_test!(pods_reach_a_link_local_address_of_their_node, async |kind: &Kind| {
    let scene = Scene::set(kind, "local").await?;
    let [node, _] = kind.across();
    let pod = scene.pod("client", node).await?;
    node.sh(&format!(
        "ip link add {LINK} type bridge && ip address add {ADDRESS}/32 dev {LINK} && ip link set {LINK} up"
    ))
    .await?;
    let asked = async {
        for transport in [Transport::Udp, Transport::Tcp] {
            let server = Echo::start(node.net(), transport, (ADDRESS.parse::<std::net::IpAddr>()?, 0).into())?;
            exchange(pod.net(), transport, server.address(), b"where is it?").await?;
            let seen = server.peers().into_iter().next().context("nobody asked")?.ip();
            ensure!(seen == pod.address(Family::V4), "the cache sees the pod as {seen}");
        }
        anyhow::Ok(())
    };
    let asked = asked.await;
    node.sh(&format!("ip link delete {LINK}")).await?;
    asked?;
    kind.settled().await?;
    scene.end().await
});
