//! All hollow agents of one run.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::runtime::{Builder, Runtime};

use super::{
    agent::Agent,
    seed::{Seed, facts, name},
    shelf::Shelf,
};
use crate::lab::wait;

/// Agents that may be without a membership while more are started: each of them holds a whole one of its own until it
/// has seen its end, which only a process with thousands of agents has to care about.
const COLD_AT_A_TIME: usize = 200;
/// How often agents are looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// Agents on threads of their own.
#[derive(Debug)]
pub(super) struct Crowd {
    agents: Vec<Agent>,
    shelf: Arc<Shelf>,
    runtime: Option<Runtime>,
}

impl Crowd {
    /// Nobody yet.
    pub(super) fn new() -> Result<Self> {
        let runtime = Builder::new_multi_thread().thread_name("hollow").enable_all().build()?;
        Ok(Self { agents: Vec::new(), shelf: Arc::default(), runtime: Some(runtime) })
    }

    /// Starts the first `count` nodes of the seed, which hold nothing; returns once all have the membership.
    pub(super) async fn start(&mut self, seed: &Seed, count: usize) -> Result<()> {
        let began = Instant::now();
        while self.agents.len() < count {
            let cold = self.agents.iter().filter(|agent| agent.progress.updates() == 0).count();
            for _ in cold..COLD_AT_A_TIME.min(cold + count - self.agents.len()) {
                self.agents.push(self.agent(seed, self.agents.len())?);
            }
            tokio::time::sleep(PAUSE).await;
            ensure!(began.elapsed() < 10 * wait::PATIENCE, "{} of {count} agents came", self.agents.len() - cold);
        }
        self.until("agents to get the membership", |_, agent| agent.progress.updates() > 0).await
    }

    /// One agent more, which is not part of the crowd.
    pub(super) fn agent(&self, seed: &Seed, n: usize) -> Result<Agent> {
        let runtime = self.runtime.as_ref().expect("there until the crowd is dropped").handle();
        let shelf = Arc::clone(&self.shelf);
        Agent::start(runtime, name(n), &seed.address(), &seed.state_dir(n), facts(n, false), shelf)
    }

    /// Waits until every agent has been told something since it had `seen` that many messages.
    pub(super) async fn updated_since(&self, seen: &[u64]) -> Result<()> {
        self.until("agents to come back", |n, agent| agent.progress.updates() > seen[n]).await
    }

    async fn until(&self, what: &str, wanted: impl Fn(usize, &Agent) -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            let missing = self.agents.iter().enumerate().filter(|(n, agent)| !wanted(*n, agent)).count();
            if missing == 0 {
                return Ok(());
            }
            ensure!(began.elapsed() < 2 * wait::PATIENCE, "waited for {what}: {missing} are missing");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until every agent has acknowledged `sequence`.
    pub(super) async fn acknowledged(&self, sequence: u64) -> Result<()> {
        self.until("acknowledgements", |_, agent| agent.progress.revision().sequence >= sequence).await
    }

    /// The agents.
    pub(super) fn agents(&self) -> &[Agent] {
        &self.agents
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.agents.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
