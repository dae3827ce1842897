//! The end of all faults, and agreement.
//!
//! Owns what an operator does once everything works again, and what must be true when all have settled.

use super::world::{Event, World};

impl World {
    /// No more faults.
    pub(super) fn heal(&mut self) {
        self.say(|_| "everything is healed".to_owned());
        self.is_healing = true;
        self.disk.fail_next(None);
        let now = self.now;
        // What was told before and did not change is for the controller to remember.
        let mut moved = Vec::new();
        for (number, agent) in self.agents.iter_mut().enumerate() {
            agent.parted_until = agent.parted_until.min(now);
            agent.slow_until = agent.slow_until.min(now);
            agent.broken_until = agent.broken_until.min(now);
            let last = u8::try_from(number + 1).expect("few nodes");
            let own = weft_core::types::UnderlayAddress::new([192, 0, 2, last].into(), 24).expect("usable");
            if std::mem::replace(&mut agent.address, own) != own {
                moved.push(number);
            }
        }
        for twin in self.nodes..self.agents.len() {
            self.retire(twin, false);
        }
        for number in 0..self.nodes {
            if moved.contains(&number) {
                self.tell_facts(number);
            }
            self.soon(0, 1000, Event::AgentStart(number));
        }
        self.soon(0, 1000, Event::ServerStart);
        self.soon(1000, 2000, Event::Operator);
    }

    /// Those for whom there is no room are deleted, those who are not members get a token.
    pub(super) fn operate(&mut self) {
        self.soon(3000, 8000, Event::Operator);
        let room = self.room();
        for number in 0..self.nodes {
            let agent = &self.agents[number];
            let life = self.disk.ledger(|ledger| ledger.life(&agent.name));
            if number >= room {
                self.retire(number, life.is_some());
                continue;
            }
            let held = agent.state.identity.as_ref().map(|identity| identity.incarnation);
            let waits = agent.has_new_token() && held.is_none();
            // Whoever waits for room in a pool goes on trying with the token that it has.
            let is_stuck = self.now > 0 && !waits && (life.is_none() || life != held);
            if is_stuck || (waits && self.random.chance(20)) {
                self.make_token(number);
            }
        }
    }

    /// A machine that is taken away for good.
    fn retire(&mut self, number: usize, is_member: bool) {
        if is_member {
            self.delete(number);
        }
        self.agent_stop(number);
        self.agents[number].is_retired = true;
    }

    /// How many nodes the pools have room for.
    fn room(&self) -> usize {
        let mut room = [0, 0];
        for pool in self.rules.pools.iter().map(|rule| rule.pool) {
            room[usize::from(pool.family() == weft_core::types::Family::V6)] += pool.total();
        }
        let least = room.into_iter().filter(|total| *total > 0).min().unwrap_or(0);
        usize::try_from(least).unwrap_or(usize::MAX)
    }

    /// Ends the world once all agree.
    pub(super) fn look_for_agreement(&mut self) {
        self.is_over = self.is_healing && self.differences().is_empty();
    }

    /// Who does not hold what all should hold; empty where everybody does.
    pub(super) fn differences(&self) -> String {
        let Some(server) = &self.server else { return "there is no controller".to_owned() };
        let (content, _) = server.actor.fanout.contents();
        let mut differences = Vec::new();
        if !self.server_is_idle() {
            differences.push("the controller is busy".to_owned());
        }
        self.disk.ledger(|ledger| {
            if !ledger.quarantine.is_empty() {
                differences.push(format!("in quarantine: {:?}", ledger.quarantine));
            }
            if !ledger.members().eq(content.members.iter().map(AsRef::as_ref)) {
                differences.push("what is announced is not what is written".to_owned());
            }
        });
        let expected: Vec<_> = self.agents.iter().take(self.room().min(self.nodes)).collect();
        if !expected.iter().map(|agent| &agent.name).eq(content.members.iter().map(|member| &member.name)) {
            let names: Vec<_> = content.members.iter().map(|member| member.name.as_str()).collect();
            differences.push(format!("members are {names:?}"));
        }
        for agent in expected {
            let Some(process) = &agent.process else {
                differences.push(format!("{} does not run", agent.name));
                continue;
            };
            let acknowledged = server.actor.sessions.get(&agent.name).and_then(|live| live.acknowledged);
            let is_current = process.view.revision() == content.revision
                && process.applied == Some(content.revision)
                && acknowledged == Some(content.revision.sequence)
                && !process.is_degraded;
            if !is_current {
                differences.push(format!(
                    "{} holds {}, applied {:?}, acknowledged {acknowledged:?} of {}",
                    agent.name,
                    process.view.revision(),
                    process.applied,
                    content.revision
                ));
            }
        }
        differences.join("; ")
    }
}
