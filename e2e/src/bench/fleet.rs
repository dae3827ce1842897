//! `weft-lab bench fleet`: the real controller with thousands of agents.
//!
//! The agents are hollow: each is the real client of the protocol, over TCP and TLS of its own, with a membership instead
//! of a kernel behind it. All of them live in this process, the controller in another one, on the loopback of one network
//! namespace. They have joined before: what is measured is what a running cluster does.

mod agent;
mod controller;
mod crowd;
mod limits;
mod run;
mod seed;
mod shelf;
mod sockets;

use anyhow::Result;
use serde::Serialize;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Numbers of agents.
    pub agents: Vec<usize>,
    /// Joins and departures of each.
    pub rounds: usize,
}

/// The findings.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// One of each number of agents.
    pub runs: Vec<Run>,
}

/// What one number of agents cost. Times are until the controller holds the acknowledgement of every agent; `*_agent_*`
/// until one agent has handed its own to its connection. Percentiles without `agent` are over rounds: with fewer than a
/// hundred of them the 99th is the worst.
#[derive(Debug, Default, Serialize)]
pub struct Run {
    /// Agents.
    pub agents: usize,
    /// One node joins.
    pub join_p50_ms: f64,
    /// The same.
    pub join_p99_ms: f64,
    /// The same, over agents and rounds.
    pub join_agent_p50_ms: f64,
    /// The same.
    pub join_agent_p99_ms: f64,
    /// One node is deleted.
    pub leave_p50_ms: f64,
    /// The same.
    pub leave_p99_ms: f64,
    /// A hundred nodes change their underlay address at once; the worst of all rounds.
    pub burst_100_ms: f64,
    /// All agents start with nothing, some hundred at a time, and get the whole membership.
    pub cold_all_s: f64,
    /// All agents drop their connections and come back to the same controller; the worst of all rounds.
    pub resume_all_s: f64,
    /// TLS sessions resumed in that, of all connections.
    pub resumed_share: f64,
    /// The controller is killed and started again; the worst of all rounds.
    pub reconnect_all_s: f64,
    /// The controller's highest resident memory through all of it.
    pub controller_rss_mib: f64,
    /// Its resident memory at the end.
    pub controller_rss_end_mib: f64,
    /// CPU time that one join or departure cost the controller.
    pub controller_cpu_ms_per_change: f64,
    /// What a join, the dearest change, cost on each agent's connection, both ways: TCP payload, which is TLS records and
    /// nothing else, as the kernel counts it.
    pub bytes_per_agent_per_change: f64,
    /// Of these to the agent.
    pub bytes_to_agent: f64,
    /// Of these from the agent.
    pub bytes_from_agent: f64,
    /// The same of a departure, both ways.
    pub bytes_per_agent_per_leave: f64,
}

/// Measures everything and returns the findings; `say` gets a line for each step.
///
/// # Errors
/// Where the lab cannot be set up or something that is measured does not work.
pub async fn run(plan: &Plan, say: &dyn Fn(&str)) -> Result<Findings> {
    let most = plan.agents.iter().copied().max().unwrap_or_default();
    limits::make_room(most)?;
    limits::loopback_up().await?;
    let mut runs = Vec::new();
    for &agents in &plan.agents {
        runs.push(run::measure(agents, plan.rounds.max(1), say).await?);
    }
    Ok(Findings { runs })
}

/// The figure below which that share of all figures is, itself one of them.
fn percentile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (figures.len() as f64 * share).ceil() as usize;
    figures.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_figures_that_were_measured_and_the_high_ones_the_worst() {
        let mut figures: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert!((percentile(&mut figures, 0.99) - 20.0).abs() < f64::EPSILON);
        assert!((percentile(&mut figures, 0.5) - 10.0).abs() < f64::EPSILON);
        assert!(percentile(&mut [], 0.5).is_nan());
    }
}
