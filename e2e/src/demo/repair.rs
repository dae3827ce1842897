//! The foreign hand: deletes kernel entries of Weft's and watches them come back.
//!
//! Owns the deletions and the clock. Deletes only in the lab, only what the agent put there.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::future::LocalBoxFuture;
use ipnetwork::IpNetwork;
use netlink_packet_route::{AddressFamily, neighbour::NeighbourAttribute};
use weft_core::types::Family;

use super::{Outcome, Repair, Screen};
use crate::{
    cluster::{Cluster, Pod},
    lab::{Wire, wait::limit},
};

/// The bar is one second; the demo waits longer to tell late from never.
const PATIENCE: Duration = Duration::from_secs(30);
/// Weft's device.
const DEVICE: &str = "weft0";

pub(super) async fn show(screen: &Screen, cluster: &Cluster, pods: &[Pod], outcome: &mut Outcome) -> Result<()> {
    let from = pods.first().context("no pods")?;
    let to = pods.iter().find(|pod| pod.host().subnet() != from.host().subnet()).context("one subnet only")?;
    let net = from.host().net();
    let wire = net.wire();
    let share = share(cluster, to).await?;
    let mac = mac(wire, to.host().address(cluster.lab().spec().outer)).await?;

    let route = (share.ip(), share.prefix());
    let found = wire.routes_to(route).await?.into_iter().next().with_context(|| format!("no route to {share}"))?;
    wire.delete_route(found).await?;
    let back =
        watch(format!("route {share}"), || Box::pin(async move { Ok(!wire.routes_to(route).await?.is_empty()) }));
    report(screen, from, back.await?, outcome);

    let found = fdb(wire, &mac).await?.with_context(|| format!("no FDB entry {}", text(&mac)))?;
    wire.delete_neighbour(found).await?;
    let mac = &mac;
    let back = watch(format!("FDB entry {}", text(mac)), || Box::pin(async { Ok(fdb(wire, mac).await?.is_some()) }));
    report(screen, from, back.await?, outcome);

    for family in Family::ALL {
        let rtt = from.reaches(to.address(family)).await?;
        screen.line(&format!("  {} reaches {} again over {family}: {rtt:?}", from.name(), to.name()));
    }
    Ok(())
}

async fn watch<'a>(object: String, there: impl Fn() -> LocalBoxFuture<'a, Result<bool>>) -> Result<Repair> {
    let start = Instant::now();
    let mut repaired = there().await?;
    while !repaired && start.elapsed() < limit(PATIENCE) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        repaired = there().await?;
    }
    Ok(Repair { object, repaired, ms: start.elapsed().as_millis().try_into().unwrap_or(u64::MAX) })
}

fn report(screen: &Screen, pod: &Pod, repair: Repair, outcome: &mut Outcome) {
    let what = if repair.repaired { "put back" } else { "STILL MISSING" };
    screen.line(&format!("  {} deleted on {}: {what} after {} ms", repair.object, pod.host().name(), repair.ms));
    outcome.repairs.push(repair);
}

/// The IPv4 pod CIDR of a pod's node.
async fn share(cluster: &Cluster, pod: &Pod) -> Result<IpNetwork> {
    let peers = cluster.controller().weft().peers().await?;
    let cidrs = peers.iter().flat_map(|peer| &peer.pod_cidrs).filter_map(|cidr| cidr.parse::<IpNetwork>().ok());
    let mut holds = cidrs.filter(|cidr| cidr.contains(pod.address(Family::V4)));
    holds.next().with_context(|| format!("no node has the pod CIDR of {}", pod.name()))
}

/// The VTEP MAC behind an underlay address, as the forwarding table has it.
async fn mac(wire: &Wire, underlay: IpAddr) -> Result<Vec<u8>> {
    let octets = match underlay {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let entries = wire.neighbours(DEVICE, AddressFamily::Bridge).await?;
    let entry = entries.iter().find(|entry| {
        entry.attributes.iter().any(|attribute| match attribute {
            NeighbourAttribute::Destination(to) => destination_octets(to) == octets,
            _ => false,
        })
    });
    let entry = entry.with_context(|| format!("no FDB entry leads to {underlay}"))?;
    let mac = lladdr(&entry.attributes).context("an FDB entry without a MAC")?;
    ensure!(mac.len() == 6, "a MAC of {} bytes", mac.len());
    Ok(mac)
}

fn destination_octets(address: &netlink_packet_route::neighbour::NeighbourAddress) -> Vec<u8> {
    use netlink_packet_route::neighbour::NeighbourAddress;
    match address {
        NeighbourAddress::Inet(v4) => v4.octets().to_vec(),
        NeighbourAddress::Inet6(v6) => v6.octets().to_vec(),
        // In the forwarding table the family does not say how to read the address.
        NeighbourAddress::Other(octets) => octets.clone(),
        _ => Vec::new(),
    }
}

fn lladdr(attributes: &[NeighbourAttribute]) -> Option<Vec<u8>> {
    attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => Some(mac.clone()),
        _ => None,
    })
}

async fn fdb(wire: &Wire, mac: &[u8]) -> Result<Option<netlink_packet_route::neighbour::NeighbourMessage>> {
    let entries = wire.neighbours(DEVICE, AddressFamily::Bridge).await?;
    Ok(entries.into_iter().find(|entry| lladdr(&entry.attributes).as_deref() == Some(mac)))
}

fn text(mac: &[u8]) -> String {
    mac.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")
}
