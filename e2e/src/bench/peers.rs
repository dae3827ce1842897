//! `weft-lab bench peers`: programming thousands of peers, and changing one.
//!
//! Cold: from a membership in memory to the empty second diff, nftables and disk included, drift monitor on, in a host of
//! its own. The floor does the same four kinds of objects with `bridge -batch` and `ip -batch`, without device, nftables,
//! disk, or looking whether it worked.

mod agent_memory;
mod counted;
mod floor;
mod world;

use anyhow::Result;
use serde::Serialize;
use weft_core::types::Family;

use self::world::World;
use super::{median, round};
use crate::lab::{Lab, LabSpec, SubnetSpec, Underlay};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Numbers of peers.
    pub peers: Vec<u32>,
    /// Rounds of each measurement.
    pub rounds: usize,
}

/// The findings.
#[derive(Debug, Serialize)]
pub struct Findings {
    cold: Vec<Cold>,
    change: Change,
    changes: Vec<OneChange>,
    rss_mib: std::collections::BTreeMap<String, f64>,
    peak_rss_mib: std::collections::BTreeMap<String, f64>,
}

#[derive(Debug, Serialize)]
struct Cold {
    peers: u32,
    floor_ms: f64,
    weft_ms: f64,
}

/// The dearest of the changes.
#[derive(Debug, Serialize)]
struct Change {
    rtnetlink_requests: usize,
    ms: f64,
}

#[derive(Debug, Serialize)]
struct OneChange {
    what: &'static str,
    families: u8,
    rtnetlink_requests: usize,
    ms: f64,
}

/// Measures everything and returns the findings; `say` gets a line for each step.
///
/// # Errors
/// Where the lab cannot be set up or something that is measured does not work.
pub async fn run(plan: &Plan, say: &dyn Fn(&str)) -> Result<Findings> {
    let mut cold = Vec::new();
    for &peers in &plan.peers {
        let (mut floors, mut wefts) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            floors.push(floor::cold(&fresh().await?, peers).await?);
            wefts.push(World::cold(&fresh().await?, peers).await?);
        }
        let row = Cold { peers, floor_ms: round(median(floors)), weft_ms: round(median(wefts)) };
        let ratio = row.weft_ms / row.floor_ms;
        say(&format!("{peers:>6} peers: floor {:>8.2} ms, Weft {:>8.2} ms: {ratio:.2} x", row.floor_ms, row.weft_ms));
        cold.push(row);
    }
    let most = plan.peers.iter().copied().max().unwrap_or(10_000);
    let mut changes = Vec::new();
    for families in [&[Family::V4][..], &Family::ALL[..]] {
        for change in World::changes(&fresh().await?, most, families, plan.rounds).await? {
            let (what, requests, ms) = (change.what, change.rtnetlink_requests, change.ms);
            say(&format!("{what}, {families:?}, {most} present: {requests} rtnetlink requests, {ms:.2} ms"));
            changes.push(change);
        }
    }
    let (mut rss_mib, mut peak_rss_mib) = (std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
    for peers in [10, 5_000, 10_000] {
        let memory = agent_memory::measure(&fresh().await?, peers).await?;
        say(&format!(
            "{peers:>6} peers: weft-agent has {:.1} MiB resident, {:.1} at its peak",
            memory.now, memory.peak
        ));
        rss_mib.insert(peers.to_string(), round(memory.now));
        peak_rss_mib.insert(peers.to_string(), round(memory.peak));
    }
    let single = changes.iter().filter(|change| change.families == 1);
    let change = Change {
        rtnetlink_requests: single.clone().map(|change| change.rtnetlink_requests).max().unwrap_or_default(),
        ms: single.map(|change| change.ms).fold(0.0, f64::max),
    };
    Ok(Findings { cold, change, changes, rss_mib, peak_rss_mib })
}

/// A host that has seen nothing. The last one's objects are gone only when the kernel has put them away, which holds its
/// lock meanwhile: that is waited for.
async fn fresh() -> Result<Lab> {
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let spec = LabSpec { subnets: vec![SubnetSpec { name: "a".to_owned(), hosts: 1 }], ..LabSpec::default() };
    Lab::start(spec.underlay(Underlay::Dual)).await
}
