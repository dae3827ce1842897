//! The link below Weft: bounced, unplugged, deleted, re-addressed, renumbered, with another MTU.

use std::{net::IpAddr, time::Instant};

use anyhow::{Context, Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    lab::{UPLINK, default_network, wait},
    lab_test,
};

use crate::drift::{
    attributes::hex,
    hands::links,
    netlink::ROUTE,
    picture::Picture,
    scene::{PATIENCE, Scene, gateway},
};

const NODE: &str = "a1";
const ALL: [&str; 3] = ["a1", "a2", "b1"];

/// An address of the node's link: in which subnet, and the last part.
#[derive(Clone, Copy)]
struct Place {
    subnet: u8,
    last: u8,
    /// Length of the IPv4 prefix.
    prefix: u8,
}

const HOME: Place = Place { subnet: 1, last: 11, prefix: 24 };

impl Place {
    fn address(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([10, 87, self.subnet, self.last]),
            Family::V6 => IpAddr::from([0xfd87, 0, 0, self.subnet.into(), 0, 0, 0, self.last.into()]),
        }
    }

    fn prefix(self, family: Family) -> u8 {
        if family == Family::V4 { self.prefix } else { 64 }
    }

    fn octets(self, family: Family) -> String {
        match self.address(family) {
            IpAddr::V4(v4) => hex(&v4.octets()),
            IpAddr::V6(v6) => hex(&v6.octets()),
        }
    }
}

impl Scene {
    /// What whoever runs the host's network does after a link came back: what the kernel dropped is configured again.
    async fn furnish(&self, place: Place, families: &[Family]) -> Result<()> {
        let wire = self.nodes[NODE].net.wire();
        for family in families {
            // Of two families one may have kept what it had.
            let _ = wire.add_address(UPLINK, place.address(*family), place.prefix(*family)).await;
            let _ = wire.add_route(default_network(*family), Some(gateway(place.address(*family)))).await;
        }
        Ok(())
    }

    /// Takes the addresses of `from` away and gives those of `to`.
    async fn readdress(&self, from: Place, to: Place, families: &[Family]) -> Result<()> {
        let wire = self.nodes[NODE].net.wire();
        for family in families {
            wire.delete_address(UPLINK, from.address(*family)).await?;
            let default = wire.routes_to(default_network(*family)).await?;
            for route in default {
                wire.delete_route(route).await?;
            }
        }
        self.furnish(to, families).await
    }

    /// Waits until all nodes are like the baseline with one address for the other, and packets flow.
    async fn moved(&mut self, what: &str, texts: &[(String, String)]) -> Result<()> {
        let start = Instant::now();
        for name in ALL {
            let wanted = texts
                .iter()
                .fold(self.nodes[name].baseline.clone(), |picture: Picture, (from, to)| picture.replaced(from, to));
            self.like(what, name, &wanted, start).await?;
        }
        let took = start.elapsed();
        self.flows().await.with_context(|| what.to_owned())?;
        self.note(took, what.to_owned());
        Ok(())
    }

    async fn connected(&self) -> Result<()> {
        self.cluster.ready().await?;
        self.cluster.connected().await
    }
}

lab_test!(a_link_that_bounces_or_loses_its_carrier_costs_nothing_lasting, async || {
    let mut scene = Scene::set().await?;
    let host = scene.cluster.lab().host(NODE);
    for round in ["bounced", "bounced again"] {
        scene.nodes[NODE].bounce().await?;
        scene.moved(&format!("underlay link {round}"), &[]).await?;
    }
    host.net().wire().set_up(UPLINK, false).await?;
    let node = &scene.nodes[NODE];
    wait::until("the agent to miss its underlay", PATIENCE, async || {
        let status = node.agent.weft().run(&["status"]).await?;
        ensure!(status.contains("NoUnderlay"), "{status}");
        Ok(())
    })
    .await?;
    ensure!(node.look()?.has("link weft0", "up=1"), "the tunnel went with the link below");
    host.net().wire().set_up(UPLINK, true).await?;
    scene.furnish(HOME, &Family::ALL).await?;
    scene.moved("underlay link down for a while", &[]).await?;
    host.set_connected(false).await?;
    host.set_connected(true).await?;
    scene.moved("carrier lost", &[]).await?;
    scene.connected().await?;
    scene.end().await
});

lab_test!(a_link_that_is_deleted_and_made_anew_is_found_again, async || {
    let mut scene = Scene::set().await?;
    scene.cluster.lab().host(NODE).replug().await?;
    scene.moved("underlay link re-created", &[]).await?;
    scene.connected().await?;
    scene.end().await
});

lab_test!(peers_follow_a_node_to_another_address, async || {
    let mut scene = Scene::set().await?;
    let moved = Place { last: 111, ..HOME };
    for family in Family::ALL {
        let mut texts = vec![(HOME.octets(family), moved.octets(family))];
        texts.push((HOME.address(family).to_string(), moved.address(family).to_string()));
        scene.readdress(HOME, moved, &[family]).await?;
        scene.moved(&format!("underlay re-addressed over {family}"), &texts).await?;
        scene.connected().await?;
        scene.readdress(moved, HOME, &[family]).await?;
        scene.moved(&format!("underlay re-addressed back over {family}"), &[]).await?;
        scene.connected().await?;
    }
    scene.end().await
});

lab_test!(a_prefix_that_changes_is_followed, async || {
    let mut scene = Scene::set().await?;
    let narrow = Place { prefix: 25, ..HOME };
    let texts = ["10.87.1.11", "10.87.1.0"].map(|address| (format!("{address}/24"), format!("{address}/25")));
    scene.readdress(HOME, narrow, &[Family::V4]).await?;
    let start = Instant::now();
    let wanted = texts
        .iter()
        .fold(scene.nodes[NODE].baseline.clone(), |picture: Picture, (from, to)| picture.replaced(from, to));
    let took = scene.like("prefix narrowed", NODE, &wanted, start).await?;
    scene.flows().await?;
    scene.note(took, "underlay prefix narrowed".to_owned());
    let peers = scene.cluster.controller().weft();
    wait::until("the controller to learn the prefix", PATIENCE, async || {
        let peer = peers.peer(NODE).await?;
        ensure!(peer.underlay_addresses.contains(&"10.87.1.11/25".to_owned()), "{:?}", peer.underlay_addresses);
        Ok(())
    })
    .await?;
    scene.readdress(narrow, HOME, &[Family::V4]).await?;
    scene.moved("underlay prefix widened", &[]).await?;
    scene.connected().await?;
    scene.end().await
});

lab_test!(a_node_that_moves_to_another_subnet_is_reached_the_other_way, async || {
    let mut scene = Scene::set().await?;
    let there = Place { subnet: 2, last: 111, prefix: 24 };
    let port = scene.cluster.lab().host(NODE).port();
    let router = crate::drift::netlink::Netlink::open(scene.cluster.lab().router(), ROUTE)?;
    let start = Instant::now();
    router.ask(&[links::join(&router, &port, "net-b")?])?;
    scene.readdress(HOME, there, &Family::ALL).await?;
    for (peer, wanted) in [("a2", "vxlan"), ("b1", "direct")] {
        let weft = scene.nodes[peer].agent.weft();
        wait::until(&format!("{peer} to reach {NODE} by {wanted}"), PATIENCE, async || {
            let peer = weft.peer(NODE).await?;
            let all = peer.paths.iter().all(|path| path.path.as_deref() == Some(wanted));
            ensure!(all && peer.is_ready(), "{peer:?}");
            Ok(())
        })
        .await?;
    }
    scene.flows().await?;
    scene.note(start.elapsed(), "underlay renumbered into another subnet".to_owned());
    scene.connected().await?;
    router.ask(&[links::join(&router, &port, "net-a")?])?;
    scene.readdress(there, HOME, &Family::ALL).await?;
    scene.moved("underlay renumbered back", &[]).await?;
    scene.connected().await?;
    scene.end().await
});

lab_test!(the_tunnel_follows_the_mtu_below, async || {
    let mut scene = Scene::set().await?;
    let node = &scene.nodes[NODE];
    let start = Instant::now();
    node.eye.route.ask(&[links::mtu(&node.eye.route, UPLINK, 1400)?])?;
    wait::until("the device to follow", PATIENCE, async || {
        ensure!(node.look()?.has("link weft0", "mtu=1350"), "the device keeps its MTU");
        Ok(())
    })
    .await?;
    // The other end's routes say what this end can take: RTAX_MTU 1350 in host byte order.
    let (far, narrow) = (&scene.nodes["b1"], hex(&1350_u32.to_ne_bytes()));
    wait::until("the peer's routes to follow", PATIENCE, async || {
        let narrowed = far.look()?.only(|line| line.starts_with("route") && line.contains(&narrow));
        ensure!(narrowed.len() == 2, "{} routes of b1 are narrower", narrowed.len());
        Ok(())
    })
    .await?;
    let took = start.elapsed();
    scene.flows().await?;
    scene.note(took, "underlay MTU 1400".to_owned());
    let node = &scene.nodes[NODE];
    node.eye.route.ask(&[links::mtu(&node.eye.route, UPLINK, 1500)?])?;
    scene.moved("underlay MTU 1500 again", &[]).await?;
    scene.connected().await?;
    scene.end().await
});
