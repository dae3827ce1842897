//! Packets of exactly the size that the path takes, and one byte more.

use anyhow::{Context, Result, ensure};
use netlink_packet_route::link::LinkAttribute;
use weft_core::types::Family;
use weft_e2e::{
    kind::{Kind, Pod, Scene, Service, scene::cluster_ip},
    kind_test,
    lab::{
        Capture,
        echo::{Echo, Transport, exchange},
        packet::{Packet, UDP, VXLAN_PORT},
    },
};

use crate::traffic::answers;

/// The underlay's MTU in this cluster, and what the tunnel takes of it over IPv4: IPv4, UDP, VXLAN and Ethernet headers.
const UNDERLAY: u32 = 1500;
const TUNNEL: u32 = 20 + 8 + 8 + 14;

/// The MTU of a pod's interface.
pub(crate) async fn mtu(pod: &Pod) -> Result<u32> {
    let link = pod.net().wire().link("eth0").await?;
    let mtu = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.context("a link without an MTU")
}

/// Bytes of an IP header and a UDP header.
const fn headers(family: Family) -> u32 {
    match family {
        Family::V4 => 20 + 8,
        Family::V6 => 40 + 8,
    }
}

/// UDP packets of the two pods inside the tunnel: whole ones, and parts of one. Only the first part has ports.
fn pieces(capture: &Capture, one: &Pod, other: &Pod, family: Family) -> Result<usize> {
    let addresses = [one.address(family), other.address(family)];
    capture.count(|packet| {
        let inner = packet.tunnel.and_then(|tunnel| tunnel.inner);
        inner.is_some_and(|inner| {
            inner.protocol == UDP && addresses.contains(&inner.src) && addresses.contains(&inner.dst)
        })
    })
}

/// A part of a packet of the tunnel that was cut in pieces on its way.
fn cut(packet: &Packet) -> bool {
    packet.ip.protocol == UDP && packet.ip.ports.is_none_or(|(_, to)| to == VXLAN_PORT && packet.tunnel.is_none())
}

kind_test!(datagrams_of_exactly_the_path_mtu_pass_in_one_piece, async |kind: &Kind| {
    let scene = Scene::set(kind, "mtu").await?;
    let [here, there] = kind.across();
    let (client, server) = (scene.pod("client", here).await?, scene.pod("server", there).await?);
    let (own, theirs) = (mtu(&client).await?, mtu(&server).await?);
    ensure!(own == UNDERLAY - TUNNEL && own == theirs, "the pods' MTUs are {own} and {theirs}");
    let router = kind.capture_at_router(there.subnet())?;
    for family in kind.families() {
        let echo = Echo::start(server.net(), Transport::Udp, (server.address(family), 0).into())?;
        // What is one byte too long crosses as two pieces each way; what fits as one.
        for (length, wanted) in [(own - headers(family), 2), (own - headers(family) + 1, 4)] {
            router.clear()?;
            exchange(client.net(), Transport::Udp, echo.address(), &vec![0x57; usize::try_from(length)?]).await?;
            // The router sees each packet as it comes and as it goes; this bridge is one of the two.
            let seen = pieces(&router, &client, &server, family)?;
            ensure!(seen == wanted, "{length} bytes of {family} there and back: {seen} packets, not {wanted}");
            router.expect_none("a tunnel packet in pieces", cut)?;
        }
    }
    scene.end().await
});

kind_test!(large_transfers_pass_directly_and_by_service, async |kind: &Kind| {
    let scene = Scene::set(kind, "bulk").await?;
    let [here, there] = kind.across();
    let (client, server) = (scene.pod("client", here).await?, scene.pod("web", there).await?);
    let service = scene.service(&Service::new("web", "web"), 1).await?;
    let router = kind.capture_at_router(there.subnet())?;
    for family in kind.families() {
        for (from, to) in [(&client, &server), (&server, &client)] {
            let echo = Echo::start(to.net(), Transport::Tcp, (to.address(family), 0).into())?;
            exchange(from.net(), Transport::Tcp, echo.address(), &vec![0x57; 1_000_000]).await?;
            let echo = Echo::start(to.net(), Transport::Udp, (to.address(family), 0).into())?;
            for length in [4_000, 16_000, 60_000] {
                exchange(from.net(), Transport::Udp, echo.address(), &vec![0x57; length]).await?;
            }
        }
        let (http, udp) = (cluster_ip(&service, family, 80)?, cluster_ip(&service, family, 90)?);
        answers(client.net(), http).await?;
        let text = "x".repeat(1_400);
        let (answer, _) = weft_e2e::kind::udp::ask(client.net(), udp, &format!("echo {text}")).await?;
        ensure!(answer == text, "{} bytes came back", answer.len());
    }
    router.expect_none("a tunnel packet in pieces", cut)?;
    scene.end().await
});
