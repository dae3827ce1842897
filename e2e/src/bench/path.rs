//! `weft-lab bench path`: what a packet's way costs.
//!
//! The same two programs talk over three ways that take turns: node to node; pods that the router knows, without any
//! overlay (native); and Weft's pods through VXLAN. All cross the same router on the same wires, pinned to one CPU for
//! requests. A veth underlay passes 64 KiB segments, which hides what segmentation costs: hence a second part in which
//! the underlay's links have no segmentation offload.

mod native;
mod offload;
mod talk;

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Result;
use serde::Serialize;
use weft_core::types::Family;

use super::{median, round};
use crate::{
    cluster::{Cluster, Pod},
    lab::{LabSpec, Namespace, Underlay},
};

/// How to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Paired rounds.
    pub rounds: usize,
    /// How long each measurement of a round takes.
    pub period: Duration,
}

/// The findings; the first two with segmentation offload.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// One-byte requests answered, a second.
    pub rr: Ways,
    /// One TCP stream, gigabits a second.
    pub bulk_gbps: Ways,
    /// The same without segmentation offload on the underlay.
    pub without_segmentation_offload: Part,
}

/// Both figures.
#[derive(Debug, Serialize)]
pub struct Part {
    /// One-byte requests answered, a second.
    pub rr: Ways,
    /// One TCP stream, gigabits a second.
    pub bulk_gbps: Ways,
}

/// A figure for each way.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Ways {
    /// From node to node.
    pub node: f64,
    /// From pod to pod, routed natively.
    pub native: f64,
    /// From pod to pod through Weft's VXLAN.
    pub weft: f64,
}

/// One way: who asks, who answers, and where.
struct Way {
    from: Arc<Namespace>,
    to: Arc<Namespace>,
    address: IpAddr,
}

/// Measures and returns the findings; `say` gets a line for each part.
///
/// # Errors
/// Where the lab cannot be set up or something that is measured does not work.
pub async fn run(plan: &Plan, say: &dyn Fn(&str)) -> Result<Findings> {
    let cluster = Cluster::start(LabSpec::default().hosts(1).underlay(Underlay::Only(Family::V4))).await?;
    native::without_bridges(cluster.lab()).await?;
    let pods = [cluster.pod("a1", "asks").await?, cluster.pod("b1", "answers").await?];
    pods[0].reaches(pods[1].address(Family::V4)).await?;
    let ways = ways(&cluster, &pods).await?;
    let with = part(&cluster, plan, &ways, true, say)?;
    let without = part(&cluster, plan, &ways, false, say)?;
    Ok(Findings { rr: with.rr, bulk_gbps: with.bulk_gbps, without_segmentation_offload: without })
}

async fn ways(cluster: &Cluster, pods: &[Pod; 2]) -> Result<[Way; 3]> {
    let (a, b) = (cluster.lab().host("a1"), cluster.lab().host("b1"));
    let native = native::pods(cluster.lab()).await?;
    Ok([
        Way { from: a.net(), to: b.net(), address: b.address(Family::V4) },
        native,
        Way { from: pods[0].net().clone(), to: pods[1].net().clone(), address: pods[1].address(Family::V4) },
    ])
}

fn part(cluster: &Cluster, plan: &Plan, ways: &[Way; 3], offload: bool, say: &dyn Fn(&str)) -> Result<Part> {
    offload::set(cluster.lab(), offload)?;
    let (mut requests, mut bulk) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for _ in 0..plan.rounds {
        for (way, figures) in ways.iter().zip(&mut requests) {
            figures.push(talk::requests(&way.from, &way.to, way.address, plan.period)?);
        }
        for (way, figures) in ways.iter().zip(&mut bulk) {
            figures.push(talk::bulk(&way.from, &way.to, way.address, plan.period)?);
        }
    }
    let ways = |[node, native, weft]: [Vec<f64>; 3]| Ways {
        node: round(median(node)),
        native: round(median(native)),
        weft: round(median(weft)),
    };
    let part = Part { rr: ways(requests), bulk_gbps: ways(bulk) };
    let title = if offload { "with" } else { "without" };
    say(&format!("{title} segmentation offload on the underlay, medians of {} rounds:", plan.rounds));
    for (what, ways) in [("requests a second", part.rr), ("Gbit/s", part.bulk_gbps)] {
        let Ways { node, native, weft } = ways;
        let share = weft / native * 100.0;
        say(&format!(
            "  {what:<18} node {node:>10.2}  native {native:>10.2}  weft {weft:>10.2} ({share:.0} % of native)"
        ));
    }
    Ok(part)
}
