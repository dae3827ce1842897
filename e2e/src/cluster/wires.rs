//! Captures on every wire of a cluster, and what they prove about the paths of pods' packets.
//!
//! Owns the law: between subnets pod packets appear only as VXLAN between the two nodes' underlay addresses; within a
//! subnet only unencapsulated where the underlay carries their family, else as VXLAN too; on the router never
//! unencapsulated.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use ipnetwork::IpNetwork;
use serde::Serialize;
use weft_core::{settings::Mode, types::Family};

use super::{Cluster, Pod};
use crate::lab::{
    Capture, UPLINK,
    packet::{Direction, Ip, Packet},
    ping::Answer,
};

/// How packets travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// Encapsulated.
    Vxlan,
    /// Unencapsulated over the underlay.
    Direct,
    /// Never on the underlay.
    Local,
}

/// What one question showed.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// How the request left the asking node.
    pub path: Path,
    /// The round trip; none where nothing came back.
    pub rtt: Option<Duration>,
}

/// Packets on the router.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Forwarded {
    /// Tunnel packets.
    pub vxlan_packets: usize,
    /// Packets with an overlay address in their outermost header: there must be none.
    pub plain_pod_packets: usize,
}

/// Captures on every node's uplink and on the router's links to the nodes' subnets.
#[derive(Debug)]
pub struct Wires<'c> {
    cluster: &'c Cluster,
    overlay: Overlay,
    uplinks: BTreeMap<String, Capture>,
    router: Vec<Capture>,
}

impl<'c> Wires<'c> {
    /// Starts all captures.
    ///
    /// # Errors
    /// Where a link is missing, or the peer list cannot be had.
    pub async fn tap(cluster: &'c Cluster) -> Result<Self> {
        let (lab, overlay) = (cluster.lab(), Overlay::learn(cluster).await?);
        let mut uplinks = BTreeMap::new();
        for node in lab.node_names() {
            uplinks.insert(node.clone(), Capture::start(&lab.host(&node).net(), UPLINK)?);
        }
        let subnets = lab.spec().subnets.iter();
        let router = subnets.map(|subnet| Capture::start(lab.router(), &format!("net-{}", subnet.name)));
        Ok(Self { cluster, overlay, uplinks, router: router.collect::<Result<_>>()? })
    }

    /// The capture on a node's uplink.
    ///
    /// # Panics
    /// Where there is no such node.
    pub fn uplink(&self, node: &str) -> &Capture {
        &self.uplinks[node]
    }

    /// The captures on the nodes' uplinks.
    pub fn uplinks(&self) -> impl Iterator<Item = (&str, &Capture)> {
        self.uplinks.iter().map(|(node, capture)| (node.as_str(), capture))
    }

    /// One echo request from pod to pod; the path is what the asking node's uplink saw of it.
    ///
    /// # Errors
    /// Where a capture missed frames, or no socket can be opened.
    pub async fn ask(&self, from: &Pod, to: &Pod, family: Family) -> Result<Asked> {
        let (source, target) = (from.address(family), to.address(family));
        let uplink = self.uplink(from.host().name());
        let before = uplink.packets()?.len();
        let answer = from.ping(target).await?;
        let request = |ip: &Ip| ip.src == source && ip.dst == target;
        let packets = uplink.packets()?;
        let sent = packets[before..].iter().filter(|packet| packet.direction == Direction::Out);
        let mut seen = sent.filter_map(|packet| match packet.tunnel.and_then(|tunnel| tunnel.inner) {
            Some(inner) if request(&inner) => Some(Path::Vxlan),
            None if request(&packet.ip) => Some(Path::Direct),
            _ => None,
        });
        let path = seen.next_back().unwrap_or(Path::Local);
        let rtt = if let Answer::Reply { rtt } = answer { Some(rtt) } else { None };
        Ok(Asked { path, rtt })
    }

    /// How packets between two pods have to travel.
    pub fn expected(&self, from: &Pod, to: &Pod, family: Family) -> Path {
        let spec = self.cluster.lab().spec();
        let same_subnet = from.host().subnet() == to.host().subnet();
        if from.host().name() == to.host().name() {
            Path::Local
        } else if same_subnet && spec.underlay.carries(family) && spec.mode != Mode::Always {
            Path::Direct
        } else {
            Path::Vxlan
        }
    }

    /// Reads all captures as a whole and returns what the router forwarded.
    ///
    /// # Errors
    /// Where any packet breaks the law, or a capture missed frames.
    pub fn prove(&self) -> Result<Forwarded> {
        for (node, capture) in &self.uplinks {
            self.prove_uplink(node, capture)?;
        }
        let mut forwarded = Forwarded::default();
        for capture in &self.router {
            let incoming = |packet: &Packet| packet.direction == Direction::In;
            forwarded.vxlan_packets += capture.count(|packet| incoming(packet) && packet.tunnel.is_some())?;
            forwarded.plain_pod_packets += capture.count(|packet| incoming(packet) && self.is_plain_pod(packet))?;
        }
        ensure!(forwarded.plain_pod_packets == 0, "the router saw unencapsulated pod packets: {forwarded:?}");
        Ok(forwarded)
    }

    fn prove_uplink(&self, node: &str, capture: &Capture) -> Result<()> {
        let host = self.cluster.lab().host(node);
        let (subnet, underlay) = (host.subnet().to_owned(), self.cluster.lab().spec().underlay);
        capture.expect_none("plain pod packets from or to another subnet", |packet| {
            self.is_plain_pod(packet) && !self.overlay.stays_in(packet, &subnet)
        })?;
        capture.expect_none("plain pod packets of a family that the underlay does not carry", |packet| {
            self.is_plain_pod(packet) && !underlay.carries(Family::of(packet.ip.src))
        })?;
        capture.expect_none("tunnel packets that are not between this node and another's underlay address", |packet| {
            packet.tunnel.is_some() && !self.is_between_nodes(packet, node)
        })
    }

    /// True for a packet with an overlay address in its outermost header.
    pub fn is_plain_pod(&self, packet: &Packet) -> bool {
        packet.touches(|address| self.overlay.has(address))
    }

    fn is_between_nodes(&self, packet: &Packet, node: &str) -> bool {
        let has = |name: &str, address: IpAddr| {
            self.cluster.lab().host(name).addresses().iter().any(|own| own.address() == address)
        };
        let others = || self.uplinks.keys().filter(|other| *other != node);
        let is_other = |address: IpAddr| others().any(|other| has(other, address));
        let (src, dst) = (packet.ip.src, packet.ip.dst);
        (has(node, src) && is_other(dst)) || (has(node, dst) && is_other(src))
    }
}

/// Which overlay networks there are, and in which subnet each node's share lives.
#[derive(Debug)]
struct Overlay {
    pools: Vec<IpNetwork>,
    shares: Vec<(IpNetwork, String)>,
}

impl Overlay {
    async fn learn(cluster: &Cluster) -> Result<Self> {
        let pools = cluster.lab().spec().pools.iter().map(|(pool, _)| pool.parse()).collect::<Result<_, _>>()?;
        let mut shares = Vec::new();
        for peer in cluster.controller().weft().peers().await? {
            for cidr in &peer.pod_cidrs {
                shares.push((cidr.parse()?, cluster.lab().host(&peer.node).subnet().to_owned()));
            }
        }
        Ok(Self { pools, shares })
    }

    fn has(&self, address: IpAddr) -> bool {
        self.pools.iter().any(|pool| pool.contains(address))
    }

    /// True where each overlay address in the outermost header belongs to a node of `subnet`.
    fn stays_in(&self, packet: &Packet, subnet: &str) -> bool {
        let belongs = |address: IpAddr| {
            !self.has(address) || self.shares.iter().any(|(share, of)| share.contains(address) && of == subnet)
        };
        belongs(packet.ip.src) && belongs(packet.ip.dst)
    }
}
