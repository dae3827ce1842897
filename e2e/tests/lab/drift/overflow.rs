//! The same when the kernel could not tell: so much happened while the agent could not listen that its events are lost.

use std::{net::Ipv4Addr, time::Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use weft_e2e::lab_test;

use crate::drift::{
    attributes::Message,
    foreign,
    hands::{Row, tables},
    matrix::everything,
    netlink::{CREATE, Request},
    scene::{Node, Scene},
};

const NODE: &str = "a1";
/// More than fits into any receive buffer of the agent's (4 MiB asked for, doubled by the kernel), a kilobyte each.
const MANY: u32 = 24_000;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
/// The column of dropped messages in /proc/net/netlink, those of the protocol and of the groups.
const DROPS: usize = 8;
const GROUPS: usize = 3;
const PROTOCOL: usize = 1;

lab_test!(lost_events_of_routes_cost_nothing_but_a_look, async || {
    let mut scene = Scene::set().await?;
    let row = everything(&scene, true)?;
    stalled(&mut scene, "everything and the device, events of links and routes lost", &row, 0, |node| {
        node.eye.route.burst((0..MANY).map(|n| route(NEWROUTE, n)))?;
        node.eye.route.burst((0..MANY).map(|n| route(DELROUTE, n)))
    })
    .await?;
    scene.end().await
});

lab_test!(lost_events_of_tables_cost_nothing_but_a_look, async || {
    let mut scene = Scene::set().await?;
    let row = tables::rows(&scene.nodes[NODE].eye.tables)?.remove(0);
    stalled(&mut scene, "table deleted, events of tables lost", &row, 12, |node| {
        for kind in [tables::NEWELEMENT, tables::DELELEMENT].repeat(12) {
            for start in (0..MANY).step_by(2000) {
                let keys = (start..start + 2000).map(|n| Ipv4Addr::from(0xc612_0000 + n).octets().to_vec());
                node.eye.tables.transact(&[tables::elements_of(kind, "other", foreign::SET, keys)])?;
            }
        }
        Ok(())
    })
    .await?;
    scene.end().await
});

/// Stops the agent, floods its sockets, does the row, and lets the agent go on.
async fn stalled(
    scene: &mut Scene,
    what: &str,
    row: &Row,
    protocol: u32,
    flood: impl Fn(&Node) -> Result<()>,
) -> Result<()> {
    let node = &scene.nodes[NODE];
    let before = lost(node, protocol)?;
    node.agent.signal(Signal::STOP).await?;
    flood(node)?;
    row.apply(&node.net, &node.eye)?;
    let after = lost(node, protocol)?;
    ensure!(after > before, "no event was lost: {before} before, {after} after");
    node.agent.signal(Signal::CONT).await?;
    let start = Instant::now();
    let took = scene.back(what, NODE, start).await?;
    scene.flows().await?;
    scene.note(took, format!("{NODE}: {what} ({} messages)", after - before));
    Ok(())
}

/// A route to an address that nobody has.
fn route(kind: u16, n: u32) -> Request {
    let header = [2, 32, 0, 0, 254, 4, 0, 6, 0, 0, 0, 0];
    let payload = Message::new(&header).add(1, &Ipv4Addr::from(0xc612_0000 + n).octets()).number(6, 0).bytes();
    Request { kind, flags: if kind == NEWROUTE { CREATE } else { 0 }, payload }
}

/// How many messages the listening sockets of a protocol have lost in this namespace.
fn lost(node: &Node, protocol: u32) -> Result<u64> {
    let text = node.net.enter(|| std::fs::read_to_string("/proc/thread-self/net/netlink"))?;
    let protocol = protocol.to_string();
    let listening = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let drops = listening
        .filter(|fields| fields.get(PROTOCOL) == Some(&protocol.as_str()) && fields.get(GROUPS) != Some(&"00000000"))
        .filter_map(|fields| fields.get(DROPS)?.parse::<u64>().ok());
    Ok(drops.sum())
}
