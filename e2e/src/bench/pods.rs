//! `weft-lab bench pods`: how long a pod takes to be attached and detached, at full density.
//!
//! Three sides take turns in one run, on one host of a lab: Weft's plugin with its running agent; the reference plugins
//! `ptp` with `host-local`; and the floor, a helper process that makes a namespace and one veth pair and nothing else.
//! On every side the namespace is made and mounted within the measured time, and one process is started for each pod: a
//! runtime makes namespaces itself and runs the plugin.

mod floor;
mod reference;
mod side;

use std::{
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;

pub use floor::{COMMAND as FLOOR, run as run_floor};
pub use reference::{build as build_reference, cnitool, directory as reference_plugins};

use self::side::{Floor, Plugin, Side};
use super::{median, round};
use crate::{cluster::Cluster, lab::LabSpec};

/// The host that pods are attached to.
const NODE: &str = "a1";

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Pods on the host.
    pub pods: usize,
    /// Rounds of each measurement; the medians of their percentiles are printed.
    pub rounds: usize,
}

/// The findings, in milliseconds.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// ADDs of all pods at once.
    pub concurrent: Comparison,
    /// ADDs in a row.
    pub sequential: Comparison,
    /// DELs of all pods at once.
    pub delete: Comparison,
}

/// Weft beside the others.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Comparison {
    pub weft_p50_ms: f64,
    pub weft_p99_ms: f64,
    pub floor_p99_ms: f64,
    pub reference_p99_ms: f64,
}

/// Percentiles of each round.
#[derive(Debug, Default)]
struct Series {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

/// What is measured of one side.
#[derive(Debug, Default)]
struct Measured {
    concurrent: Series,
    sequential: Series,
    delete: Series,
}

/// Runs the bench; `say` gets a line for people now and then.
///
/// # Errors
/// Where the lab does not come up or a plugin fails.
pub async fn run(plan: &Plan, say: &dyn Fn(&str)) -> Result<Findings> {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let weft = Plugin::weft(&cluster.agent(NODE)).await?;
    let host = cluster.lab().host(NODE).net();
    let reference = Plugin::reference(&host)?;
    let floor = Floor::new(&host)?;
    let sides: [(&str, &dyn Side); 3] = [("floor", &floor), ("reference", &reference), ("weft", &weft)];
    let mut all: [Measured; 3] = Default::default();
    for number in 0..plan.rounds {
        // Who comes first changes, so that nobody always meets what another left for the kernel to tidy up.
        for turn in 0..sides.len() {
            let at = (turn + number) % sides.len();
            measure(sides[at].1, plan.pods, &mut all[at]).with_context(|| format!("side {}", sides[at].0))?;
        }
        let p99 = |at: usize| all[at].concurrent.p99.last().copied().unwrap_or_default();
        say(&format!(
            "  round {}: {} ADDs at once, p99: floor {:.1} ms, reference {:.1} ms, weft {:.1} ms",
            number + 1,
            plan.pods,
            p99(0),
            p99(1),
            p99(2)
        ));
    }
    Ok(findings(&all))
}

fn measure(side: &dyn Side, pods: usize, into: &mut Measured) -> Result<()> {
    into.concurrent.take(at_once(pods, &|number| side.add(number))?);
    into.delete.take(at_once(pods, &|number| side.delete(number))?);
    settle(side)?;
    into.sequential.take(in_a_row(pods, &|number| side.add(number))?);
    // Not measured: the row of DELs only makes room.
    at_once(pods, &|number| side.delete(number))?;
    settle(side)
}

/// The kernel takes namespaces down when it finds the time; the next side is not to pay for it.
fn settle(side: &dyn Side) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    while side.links_left()? > 0 {
        anyhow::ensure!(Instant::now() < until, "interfaces of deleted pods are still there after a minute");
        thread::sleep(Duration::from_millis(20));
    }
    // Its lock is held for a while after the last link went.
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

fn at_once(pods: usize, one: &(dyn Fn(usize) -> Result<()> + Sync)) -> Result<Vec<f64>> {
    let start = Barrier::new(pods);
    thread::scope(|scope| {
        let run = |number| {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                timed(|| one(number))
            })
        };
        let threads: Vec<_> = (0..pods).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic in a measured step")).collect()
    })
}

fn in_a_row(pods: usize, one: &(dyn Fn(usize) -> Result<()> + Sync)) -> Result<Vec<f64>> {
    // A thread like those of the other measurement: what it enters it leaves behind.
    thread::scope(|scope| {
        let row = scope.spawn(|| (0..pods).map(|number| timed(|| one(number))).collect());
        row.join().expect("no panic in a measured step")
    })
}

fn timed(step: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    step()?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn findings(all: &[Measured; 3]) -> Findings {
    let compare = |of: &dyn Fn(&Measured) -> &Series| {
        let figure = |at: usize, p50: bool| {
            let series = of(&all[at]);
            round(median(if p50 { series.p50.clone() } else { series.p99.clone() }))
        };
        Comparison {
            weft_p50_ms: figure(2, true),
            weft_p99_ms: figure(2, false),
            floor_p99_ms: figure(0, false),
            reference_p99_ms: figure(1, false),
        }
    };
    Findings {
        concurrent: compare(&|side| &side.concurrent),
        sequential: compare(&|side| &side.sequential),
        delete: compare(&|side| &side.delete),
    }
}

impl Series {
    fn take(&mut self, mut figures: Vec<f64>) {
        figures.sort_by(f64::total_cmp);
        self.p50.push(percentile(&figures, 50));
        self.p99.push(percentile(&figures, 99));
    }
}

/// The figure that so many of a hundred do not exceed, of sorted figures.
fn percentile(sorted: &[f64], of_hundred: usize) -> f64 {
    let rank = (sorted.len() * of_hundred).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_figures_that_were_measured() {
        let figures: Vec<f64> = (1..=110).map(f64::from).collect();
        assert!((percentile(&figures, 50) - 55.0).abs() < f64::EPSILON);
        assert!((percentile(&figures, 99) - 109.0).abs() < f64::EPSILON);
        assert!((percentile(&[7.0], 99) - 7.0).abs() < f64::EPSILON);
    }
}
