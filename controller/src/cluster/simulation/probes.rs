//! Probes between nodes, and what the controller makes of what it is told of them.
//!
//! Owns who answers whom, and the check that nobody is called unreachable on a liar's word alone while there are other witnesses.

use weft_core::{
    standing::{Health, PeerProblem, Problem, Reason, State},
    types::{NodeName, UnixMs},
};

use super::{
    Checked, Planted,
    agent::Agent,
    hold,
    world::{Event, World},
};

impl World {
    /// Looks anew who answers.
    pub(super) fn probe(&mut self, number: usize, run: u64) {
        if self.agents[number].running(run).is_some() {
            self.soon(1000, 5000, Event::Probe(number, run));
            self.tell(number);
        }
    }

    /// What an agent says of itself and its peers.
    pub(super) fn health(&self, number: usize) -> Health {
        let agent = &self.agents[number];
        let Some(process) = &agent.process else { return Health::default() };
        let kernel = || Problem { reason: Reason::KernelDiffers, message: String::new() };
        let problem = process.is_degraded.then(kernel);
        let peers = process.view.members().map(|member| member.name.clone()).filter(|name| *name != agent.name);
        let accuses = agent.lies.as_ref().and_then(|lies| lies.accuses);
        let (silent, answering): (Vec<_>, Vec<_>) = match accuses {
            // Said twice it is no truer.
            Some(_) => ([self.others(number), self.others(number)].concat(), Vec::new()),
            None => peers.partition(|peer| !self.answers(number, peer)),
        };
        let lost = |node| PeerProblem { node, reason: Reason::ProbeLost, message: String::new(), since: UnixMs(0) };
        let problem_count = u32::try_from(silent.len()).expect("few");
        let healthy_count = accuses.unwrap_or_else(|| u32::try_from(answering.len()).expect("few"));
        let peers = silent.into_iter().map(lost).collect();
        Health { problem, peers, problem_count, healthy_count }
    }

    /// Everybody else.
    fn others(&self, number: usize) -> Vec<NodeName> {
        let name = &self.agents[number].name;
        self.agents.iter().map(|other| other.name.clone()).filter(|other| other != name).collect()
    }

    /// Probes need both ends, and nothing of the agents' streams.
    fn answers(&self, number: usize, peer: &NodeName) -> bool {
        let is_there = |agent: &Agent| agent.process.is_some() && agent.parted_until <= self.now;
        is_there(&self.agents[number]) && self.agents.iter().any(|agent| agent.name == *peer && is_there(agent))
    }

    /// After a tick of the controller: whoever is connected is unreachable by its own word or that of an honest node.
    pub(super) fn check_standings(&mut self) -> Checked {
        let Some(server) = &mut self.server else { return Ok(()) };
        let standings = server.actor.node_standings();
        let Some(server) = &self.server else { return Ok(()) };
        let mut accused = 0;
        for standing in standings.iter().filter(|standing| standing.is_connected && self.is_honest(&standing.name)) {
            let accusers = server.actor.sessions.iter().filter(|(_, live)| accuses(&live.health, &standing.name));
            let (honest, liars): (Vec<_>, Vec<_>) = accusers.partition(|(accuser, _)| self.is_honest(accuser));
            accused += u64::from(!liars.is_empty());
            let is_accused = self.planted == Planted::AnyAccuser && !(honest.is_empty() && liars.is_empty());
            let says_so = standing.health.as_ref().is_some_and(|own| own.healthy_count == 0 && own.problem_count > 0);
            // The only witness is believed.
            let is_third = |node: &NodeName| *node != standing.name && liars.iter().all(|(liar, _)| *liar != node);
            let mut sessions = server.actor.sessions.iter();
            let has_witness = sessions.any(|(node, live)| is_third(node) && live.health.healthy_count > 0);
            hold!(
                !(standing.state == State::Unreachable || is_accused) || says_so || !honest.is_empty() || !has_witness,
                "{} is called unreachable on the word of a liar alone: {}",
                standing.name,
                standing.message
            );
        }
        self.counts.accused += accused;
        Ok(())
    }
}

fn accuses(health: &Health, node: &NodeName) -> bool {
    health.peers.iter().any(|problem| problem.reason == Reason::ProbeLost && problem.node == *node)
}
