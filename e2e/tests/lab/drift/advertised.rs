//! Hosts that the network configures by router advertisements.

use std::net::Ipv6Addr;

use anyhow::ensure;
use weft_core::types::Family;
use weft_e2e::{
    cluster::Cluster,
    lab::{LabSpec, Underlay, default_network, frame, raw::PacketSocket, wait},
    lab_test,
};

use crate::drift::scene::PATIENCE;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x87, 1, 0, 0, 0, 0);
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ROUTERS_MAC: [u8; 6] = [0x02, 0x4c, 0x61, 0x62, 0, 1];

// A link may be slow at boot: the agent, and forwarding, are there before the first advertisement.
lab_test!(the_first_router_advertisement_counts_though_it_comes_after_the_agent, async || {
    let spec = LabSpec::default().hosts(1).underlay(Underlay::Only(Family::V4));
    let cluster = Cluster::start(spec).await?;
    cluster.ready().await?;
    let host = cluster.lab().host("a1");
    let wire = PacketSocket::open(cluster.lab().router(), &host.port())?;
    let advertisement = frame::ethernet(ALL_NODES, ROUTERS_MAC, &frame::router_advertisement(ROUTER, PREFIX));
    wait::until("an IPv6 default route by advertisement", PATIENCE, async || {
        wire.send(&advertisement)?;
        let routes = host.net().wire().routes_to(default_network(Family::V6)).await?;
        ensure!(!routes.is_empty(), "there is none");
        Ok(())
    })
    .await
});
