//! The end of all faults, and agreement.
//!
//! Owns what an operator does once everything works again, and what must be true when all have settled.

use weft_core::{
    membership::{Member, Snapshot},
    types::UnderlayAddress,
};

use super::world::{Event, World};

impl World {
    /// No more faults. Whatever stopped starts again as it does anyhow, and nobody is told anything twice.
    pub(super) fn heal(&mut self) {
        self.say(|_| "everything is healed".to_owned());
        self.is_healing = true;
        self.disk.fail_next(None);
        self.disk.stall_next(0);
        let now = self.now;
        for agent in &mut self.agents {
            agent.parted_until = agent.parted_until.min(now);
            agent.slow_until = agent.slow_until.min(now);
            agent.broken_until = agent.broken_until.min(now);
            agent.disk.until = agent.disk.until.min(now);
        }
        for twin in self.nodes..self.agents.len() {
            self.retire(twin, false);
        }
        self.part_addresses();
        self.stop_lies();
        self.soon(1000, 2000, Event::Operator);
    }

    /// Of two machines with one address the operator gives one another.
    fn part_addresses(&mut self) {
        for number in 1..self.nodes {
            let own = self.agents[number].address.address();
            if self.agents[..number].iter().any(|other| other.address.address() == own) {
                let last = u8::try_from(number + 101).expect("few nodes");
                let address = UnderlayAddress::new([192, 0, 2, last].into(), 24).expect("usable");
                self.set_address(number, address);
            }
        }
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
        let (content, _) = server.actor.publisher.fanout().contents();
        let mut differences = Vec::new();
        if !self.server_is_idle() {
            differences.push("the controller is busy".to_owned());
        }
        self.disk.ledger(|ledger| {
            if !ledger.quarantine.is_empty() {
                differences.push(format!("in quarantine: {:?}", ledger.quarantine));
            }
            if !ledger.members().eq(content.members.iter().map(|member| Member::clone(member))) {
                differences.push("what is announced is not what is written".to_owned());
            }
        });
        let expected: Vec<usize> = (0..self.room().min(self.nodes)).filter(|number| !self.is_liar(*number)).collect();
        let honest = content.members.iter().map(|member| &member.name).filter(|name| self.is_honest(name));
        if !expected.iter().map(|number| &self.agents[*number].name).eq(honest) {
            let names: Vec<_> = content.members.iter().map(|member| member.name.as_str()).collect();
            differences.push(format!("members are {names:?}"));
        }
        for number in expected {
            differences.extend(self.difference(number, &content));
            differences.extend(self.difference_of_facts(number, &content));
        }
        differences.join("; ")
    }

    /// What an agent has not got of what the leader holds.
    fn difference(&self, number: usize, content: &Snapshot) -> Option<String> {
        let agent = &self.agents[number];
        let Some(process) = &agent.process else { return Some(format!("{} does not run", agent.name)) };
        let sessions = self.server.as_ref().map(|server| &server.actor.sessions);
        let acknowledged = sessions.and_then(|sessions| sessions.get(&agent.name)).and_then(|live| live.acknowledged);
        let is_current = process.view.revision() == content.revision
            && process.applied == Some(content.revision)
            && acknowledged == Some(content.revision.sequence)
            && !process.is_degraded;
        (!is_current).then(|| {
            let (held, applied) = (process.view.revision(), process.applied);
            let newest = content.revision;
            format!("{} holds {held}, applied {applied:?}, acknowledged {acknowledged:?} of {newest}", agent.name)
        })
    }

    /// What is announced of an agent's node and is not what it would report now, and whose address its kernel lacks.
    fn difference_of_facts(&self, number: usize, content: &Snapshot) -> Option<String> {
        let agent = &self.agents[number];
        let facts = agent.facts();
        let member = content.members.iter().find(|member| member.name == agent.name)?;
        if member.underlay != facts.underlay || member.underlay_mtu != facts.underlay_mtu {
            return Some(format!("{} says {facts:?}, and is announced as {member:?}", agent.name));
        }
        let written = self.disk.ledger(|ledger| ledger.nodes.get(&agent.name).cloned())?;
        if written.facts.as_ref().map(|facts| &facts.agent_version) != Some(&facts.agent_version) {
            return Some(format!("{} is version {:?}, and {written:?} is written", agent.name, facts.agent_version));
        }
        let others = content.members.iter().filter(|other| other.name != agent.name && self.is_honest(&other.name));
        let mut lacking = others.filter(|other| self.lacks_address(number, &other.name));
        lacking.next().map(|other| format!("the kernel of {} lacks the address of {}", agent.name, other.name))
    }
}
