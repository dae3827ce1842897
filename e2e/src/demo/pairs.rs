//! Every pod asks every other, and captures tell how the packets travelled.
//!
//! Owns the table and the account of the captures; what they have to show is [`Wires`]' law.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use weft_core::types::Family;

use super::{Outcome, Pair, Screen};
use crate::cluster::{Cluster, Pod, Wires};

pub(super) async fn measure(screen: &Screen, cluster: &Cluster, pods: &[Pod], outcome: &mut Outcome) -> Result<()> {
    let wires = Wires::tap(cluster).await?;
    for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
        if from.name() == to.name() {
            continue;
        }
        for family in Family::ALL {
            let asked = wires.ask(from, to, family).await?;
            outcome.pairs.push(Pair {
                from: from.name().to_owned(),
                to: to.name().to_owned(),
                family: if family == Family::V4 { 4 } else { 6 },
                path: asked.path,
                ok: asked.rtt.is_some() && asked.path == wires.expected(from, to, family),
                rtt_us: asked.rtt.and_then(|rtt| rtt.as_micros().try_into().ok()),
            });
        }
    }
    table(screen, &outcome.pairs);
    screen.section("What the wires carried while they asked");
    for (node, capture) in wires.uplinks() {
        let vxlan = capture.count(|packet| packet.tunnel.is_some())?;
        let plain = capture.count(|packet| wires.is_plain_pod(packet))?;
        screen.line(&format!("  {node:<7} {vxlan:>5} VXLAN packets, {plain:>5} plain pod packets"));
    }
    outcome.router = wires.prove()?;
    let (vxlan, plain) = (outcome.router.vxlan_packets, outcome.router.plain_pod_packets);
    screen.line(&format!("  router  {vxlan:>5} VXLAN packets, {plain:>5} plain pod packets"));
    screen.line("  proven: between subnets only VXLAN between the two nodes, plain pod packets only inside a subnet");
    ensure!(vxlan > 0, "the router saw no VXLAN packet");
    Ok(())
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
