//! One number of agents, from the start to the end.

use std::{path::Path, time::Instant};

use anyhow::Result;

use super::{
    Run,
    controller::Controller,
    crowd::Crowd,
    percentile,
    seed::{PORT, Seed, facts, name},
    sockets::{Bytes, Traffic},
};
use crate::{bench::round, lab::sandbox};

/// Nodes that change at once.
const BURST: usize = 100;
/// Rounds of what concerns all agents.
const STORMS: usize = 3;

/// Measures everything with this many agents.
pub(super) async fn measure(agents: usize, rounds: usize, say: &dyn Fn(&str)) -> Result<Run> {
    let directory = Path::new(sandbox::STATE).join(format!("fleet-{agents}"));
    let seed = Seed::plant(directory, agents, rounds).await?;
    let (controller, crowd) = (Controller::start(&seed).await?, Crowd::new()?);
    let run = Run { agents, ..Run::default() };
    let mut bench = Bench { seed, controller, crowd, run, agents, peak: 0.0, say };
    bench.cold().await?;
    bench.changes(rounds).await?;
    bench.burst().await?;
    bench.resume().await?;
    bench.restart().await?;
    bench.end().await
}

struct Bench<'a> {
    seed: Seed,
    controller: Controller,
    crowd: Crowd,
    run: Run,
    agents: usize,
    /// The highest resident memory of controllers that have ended.
    peak: f64,
    say: &'a dyn Fn(&str),
}

impl Bench<'_> {
    fn say(&self, text: &str) {
        let memory = |field| self.controller.memory(field).unwrap_or(f64::NAN);
        let (now, peak) = (memory("VmRSS"), memory("VmHWM"));
        (self.say)(&format!("{:>6} agents: {text} (controller: {now:.0} MiB, at most {peak:.0})", self.agents));
    }

    async fn sequence(&mut self) -> Result<u64> {
        Ok(self.controller.status().await?.revision.unwrap_or_default().sequence)
    }

    /// Waits until everybody has acknowledged `sequence`, the controller's own count last; seconds since `began`.
    async fn settled(&mut self, began: Instant, connected: usize, sequence: u64) -> Result<f64> {
        self.crowd.acknowledged(sequence).await?;
        self.controller.acknowledged(connected, sequence).await?;
        Ok(began.elapsed().as_secs_f64())
    }

    async fn cold(&mut self) -> Result<()> {
        let began = Instant::now();
        self.crowd.start(&self.seed, self.agents).await?;
        let sequence = self.sequence().await?;
        self.run.cold_all_s = round(self.settled(began, self.agents, sequence).await?);
        self.say(&format!("all got the membership in {} s", self.run.cold_all_s));
        Ok(())
    }

    /// Joins and departures by turns, so that the cluster is the same in each round.
    async fn changes(&mut self, rounds: usize) -> Result<()> {
        let (mut joins, mut leaves, mut each) = (Vec::new(), Vec::new(), Vec::new());
        let (mut to_join, mut to_leave) = (Bytes::default(), Bytes::default());
        let mut cpu = std::time::Duration::ZERO;
        for round in 0..rounds {
            let sequence = self.sequence().await?;
            let (before, used) = (Traffic::now(PORT).await?, self.controller.cpu()?);
            let n = self.agents + round;
            let began = Instant::now();
            let newcomer = self.crowd.agent(&self.seed, n)?;
            joins.push(1e3 * self.settled(began, self.agents + 1, sequence + 1).await?);
            each.extend(self.crowd.agents().iter().map(|agent| agent.progress.ms_since(began)));
            let between = Traffic::now(PORT).await?;
            to_join.add(between.since(&before));

            let began = Instant::now();
            self.controller.delete(&name(n)).await?;
            drop(newcomer);
            leaves.push(1e3 * self.settled(began, self.agents, sequence + 2).await?);
            cpu += self.controller.cpu()?.saturating_sub(used);
            to_leave.add(Traffic::now(PORT).await?.since(&between));
        }
        let run = &mut self.run;
        (run.join_p50_ms, run.join_p99_ms) = percentiles(&mut joins);
        (run.join_agent_p50_ms, run.join_agent_p99_ms) = percentiles(&mut each);
        (run.leave_p50_ms, run.leave_p99_ms) = percentiles(&mut leaves);
        (run.bytes_to_agent, run.bytes_from_agent) = to_join.per_connection();
        run.bytes_per_agent_per_change = round(run.bytes_to_agent + run.bytes_from_agent);
        let (down, up) = to_leave.per_connection();
        run.bytes_per_agent_per_leave = round(down + up);
        run.controller_cpu_ms_per_change = round(cpu.as_secs_f64() * 1e3 / (2 * rounds) as f64);
        let text = format!(
            "a join acknowledged by all in {} ms (p50), {} ms (p99), a departure in {} and {} ms; {} and {} bytes an \
             agent; {} ms of the controller's CPU a change",
            run.join_p50_ms,
            run.join_p99_ms,
            run.leave_p50_ms,
            run.leave_p99_ms,
            run.bytes_per_agent_per_change,
            run.bytes_per_agent_per_leave,
            run.controller_cpu_ms_per_change
        );
        self.say(&text);
        Ok(())
    }

    async fn burst(&mut self) -> Result<()> {
        let changing = BURST.min(self.agents);
        let told = |bench: &Self| bench.crowd.agents().iter().map(|agent| agent.progress.updates()).sum::<u64>();
        let (before, used) = (told(self), self.controller.cpu()?);
        for round in 0..STORMS {
            let sequence = self.sequence().await?;
            let began = Instant::now();
            for (n, agent) in self.crowd.agents().iter().enumerate().take(changing) {
                agent.change(|known| *known = facts(n, round % 2 == 0));
            }
            let all = sequence + u64::try_from(changing)?;
            let ms = 1e3 * self.settled(began, self.agents, all).await?;
            self.run.burst_100_ms = self.run.burst_100_ms.max(crate::bench::round(ms));
        }
        let messages = (told(self) - before) / u64::try_from(self.agents * STORMS)?;
        let cpu = self.controller.cpu()?.saturating_sub(used).as_millis() / STORMS as u128;
        self.say(&format!(
            "{changing} changes at once acknowledged by all in {} ms, told in {messages} messages to each; {cpu} ms of the \
             controller's CPU",
            self.run.burst_100_ms
        ));
        Ok(())
    }

    /// All come back to the same controller.
    async fn resume(&mut self) -> Result<()> {
        let (ok, resumed) = (self.controller.handshakes("ok").await?, self.controller.handshakes("resumed").await?);
        for _ in 0..STORMS {
            let seconds = self.all_return(async |bench| {
                bench.crowd.agents().iter().for_each(super::agent::Agent::reconnect);
                Ok(())
            });
            let seconds = seconds.await?;
            self.run.resume_all_s = self.run.resume_all_s.max(round(seconds));
        }
        let ok = self.controller.handshakes("ok").await? - ok;
        let resumed = self.controller.handshakes("resumed").await? - resumed;
        #[allow(clippy::cast_precision_loss)]
        let share = resumed as f64 / (ok + resumed) as f64;
        self.run.resumed_share = round(share);
        self.say(&format!(
            "all dropped their connections and were current again in {} s; {resumed} of {} TLS sessions resumed",
            self.run.resume_all_s,
            ok + resumed
        ));
        Ok(())
    }

    async fn restart(&mut self) -> Result<()> {
        for _ in 0..STORMS {
            self.note_peak()?;
            let seconds = self.all_return(async |bench| bench.controller.restart(&bench.seed).await);
            let seconds = seconds.await?;
            self.run.reconnect_all_s = self.run.reconnect_all_s.max(round(seconds));
        }
        self.say(&format!("the controller was killed and all were back after {} s", self.run.reconnect_all_s));
        Ok(())
    }

    /// Seconds from the start of what makes all agents connect anew until all of them are current.
    async fn all_return(&mut self, trouble: impl AsyncFnOnce(&mut Self) -> Result<()>) -> Result<f64> {
        let seen: Vec<u64> = self.crowd.agents().iter().map(|agent| agent.progress.updates()).collect();
        let began = Instant::now();
        trouble(self).await?;
        self.crowd.updated_since(&seen).await?;
        let sequence = self.sequence().await?;
        self.settled(began, self.agents, sequence).await
    }

    fn note_peak(&mut self) -> Result<()> {
        self.peak = self.peak.max(self.controller.memory("VmHWM")?);
        Ok(())
    }

    async fn end(mut self) -> Result<Run> {
        self.note_peak()?;
        self.run.controller_rss_mib = round(self.peak);
        self.run.controller_rss_end_mib = round(self.controller.memory("VmRSS")?);
        self.say(&format!(
            "the controller had {} MiB resident at its peak, {} at the end",
            self.run.controller_rss_mib, self.run.controller_rss_end_mib
        ));
        drop(self.crowd);
        self.controller.kill().await?;
        self.seed.remove()?;
        Ok(self.run)
    }
}

fn percentiles(figures: &mut [f64]) -> (f64, f64) {
    (round(percentile(figures, 0.5)), round(percentile(figures, 0.99)))
}
