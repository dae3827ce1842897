//! Every pod asks every other, and captures tell how the packets travelled.
//!
//! Owns the proof: on every node's uplink, between subnets pod packets appear only as VXLAN between the two nodes'
//! addresses, within a subnet only unencapsulated, and on the router never unencapsulated.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Result, ensure};
use ipnetwork::IpNetwork;
use weft_core::types::Family;

use super::{Outcome, Pair, Path, Screen};
use crate::{
    cluster::{Cluster, Pod},
    lab::{
        Capture, UPLINK,
        packet::{Direction, Ip, Packet},
        ping::Answer,
    },
};

/// Captures on every wire.
struct Wires {
    uplinks: BTreeMap<String, Capture>,
    router: Vec<Capture>,
}

/// What passed a node's uplink.
#[derive(Default)]
struct Tally {
    vxlan: usize,
    direct: usize,
}

pub(super) async fn measure(screen: &Screen, cluster: &Cluster, pods: &[Pod], outcome: &mut Outcome) -> Result<()> {
    let wires = Wires::tap(cluster)?;
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        if from.name() == to.name() {
            continue;
        }
        for family in Family::ALL {
            let pair = ask(&wires, from, to, family).await?;
            let tally = tallies.entry(from.host().name().to_owned()).or_default();
            match pair.path {
                Path::Vxlan => tally.vxlan += 1,
                Path::Direct => tally.direct += 1,
                Path::Local => {}
            }
            outcome.pairs.push(pair);
        }
    }
    table(screen, &outcome.pairs);
    prove(screen, cluster, &wires, &tallies, outcome).await
}

impl Wires {
    fn tap(cluster: &Cluster) -> Result<Self> {
        let lab = cluster.lab();
        let mut uplinks = BTreeMap::new();
        for node in lab.node_names() {
            uplinks.insert(node.clone(), Capture::start(&lab.host(&node).net(), UPLINK)?);
        }
        let subnets = lab.spec().subnets.iter();
        let router = subnets.map(|subnet| Capture::start(lab.router(), &format!("net-{}", subnet.name)));
        Ok(Self { uplinks, router: router.collect::<Result<_>>()? })
    }
}

/// One question; the path is what the asking node's uplink saw of it.
async fn ask(wires: &Wires, from: &Pod, to: &Pod, family: Family) -> Result<Pair> {
    let (source, target) = (from.address(family), to.address(family));
    let uplink = &wires.uplinks[from.host().name()];
    let before = uplink.packets()?.len();
    let answer = from.ping(target).await?;
    let request = |ip: &Ip| ip.src == source && ip.dst == target;
    let packets = uplink.packets()?;
    let sent = packets[before..].iter().filter(|packet| packet.direction == Direction::Out);
    let seen = sent.filter_map(|packet| match packet.tunnel.and_then(|tunnel| tunnel.inner) {
        Some(inner) if request(&inner) => Some(Path::Vxlan),
        None if request(&packet.ip) => Some(Path::Direct),
        _ => None,
    });
    let path = seen.last().unwrap_or(Path::Local);
    let rtt = if let Answer::Reply { rtt } = answer { Some(rtt) } else { None };
    Ok(Pair {
        from: from.name().to_owned(),
        to: to.name().to_owned(),
        family: if family == Family::V4 { 4 } else { 6 },
        path,
        ok: rtt.is_some() && path == expected(from, to),
        rtt_us: rtt.and_then(|rtt| rtt.as_micros().try_into().ok()),
    })
}

fn expected(from: &Pod, to: &Pod) -> Path {
    if from.host().name() == to.host().name() {
        Path::Local
    } else if from.host().subnet() == to.host().subnet() {
        Path::Direct
    } else {
        Path::Vxlan
    }
}

/// One line for two pods: both directions were measured, the slower one is shown.
fn table(screen: &Screen, pairs: &[Pair]) {
    screen.line(&format!("  {:<8} {:<8} {:<20} {:<20}", "pod", "pod", "IPv4", "IPv6"));
    let mut lines: BTreeMap<(&str, &str), [Vec<&Pair>; 2]> = BTreeMap::new();
    for pair in pairs {
        let key = if pair.from < pair.to { (&*pair.from, &*pair.to) } else { (&*pair.to, &*pair.from) };
        lines.entry(key).or_default()[usize::from(pair.family == 6)].push(pair);
    }
    for ((from, to), families) in &lines {
        let [v4, v6] = families.each_ref().map(|pairs| cell(pairs));
        screen.line(&format!("  {from:<8} {to:<8} {v4:<20} {v6:<20}"));
    }
}

fn cell(pairs: &[&Pair]) -> String {
    if let Some(wrong) = pairs.iter().find(|pair| !pair.ok) {
        let what = if wrong.rtt_us.is_none() { "NO ANSWER" } else { "WRONG PATH" };
        return format!("{:<7}{what}", format!("{:?}", wrong.path).to_lowercase());
    }
    let slowest = pairs.iter().filter_map(|pair| pair.rtt_us).max().unwrap_or_default();
    let path = pairs.first().map(|pair| format!("{:?}", pair.path).to_lowercase()).unwrap_or_default();
    #[allow(clippy::cast_precision_loss)]
    let milliseconds = slowest as f64 / 1000.0;
    format!("{path:<7}{milliseconds:>6.3} ms")
}

/// Which overlay networks there are, and in which subnet each node's share lives.
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

    /// True for a packet with an overlay address in its outermost header.
    fn is_plain_pod(&self, packet: &Packet) -> bool {
        packet.touches(|address| self.has(address))
    }

    /// True where each overlay address in the outermost header belongs to a node of `subnet`.
    fn stays_in(&self, packet: &Packet, subnet: &str) -> bool {
        let belongs = |address: IpAddr| {
            !self.has(address) || self.shares.iter().any(|(share, of)| share.contains(address) && of == subnet)
        };
        belongs(packet.ip.src) && belongs(packet.ip.dst)
    }
}

/// Reads all captures once more, as a whole.
async fn prove(
    screen: &Screen,
    cluster: &Cluster,
    wires: &Wires,
    asked: &BTreeMap<String, Tally>,
    outcome: &mut Outcome,
) -> Result<()> {
    let overlay = Overlay::learn(cluster).await?;
    screen.section("What the wires carried while they asked");
    for (node, capture) in &wires.uplinks {
        let host = cluster.lab().host(node);
        let own = |address: IpAddr| host.addresses().iter().any(|own| own.address() == address);
        capture.expect_none("tunnel packets of other hosts", |packet| packet.tunnel.is_some() && !packet.touches(own))?;
        capture.expect_none("plain pod packets from or to another subnet", |packet| {
            overlay.is_plain_pod(packet) && !overlay.stays_in(packet, host.subnet())
        })?;
        let vxlan = capture.count(|packet| packet.tunnel.is_some())?;
        let plain = capture.count(|packet| overlay.is_plain_pod(packet))?;
        let asked = asked.get(node).map_or((0, 0), |tally| (tally.vxlan, tally.direct));
        screen.line(&format!("  {node:<7} {vxlan:>4} VXLAN packets, {plain:>4} plain pod packets, those inside subnet {} only \
             (its pods asked {} times through VXLAN, {} times directly)", host.subnet(), asked.0, asked.1));
    }
    for capture in &wires.router {
        let incoming = |packet: &Packet| packet.direction == Direction::In;
        outcome.router.vxlan_packets += capture.count(|packet| incoming(packet) && packet.tunnel.is_some())?;
        outcome.router.plain_pod_packets += capture.count(|packet| incoming(packet) && overlay.is_plain_pod(packet))?;
    }
    let (vxlan, plain) = (outcome.router.vxlan_packets, outcome.router.plain_pod_packets);
    screen.line(&format!("  router  {vxlan:>4} VXLAN packets, {plain:>4} plain pod packets"));
    ensure!(plain == 0, "the router saw {plain} unencapsulated pod packets");
    ensure!(vxlan > 0, "the router saw no VXLAN packet");
    Ok(())
}
