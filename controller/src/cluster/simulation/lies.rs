//! A member that was taken over.
//!
//! Owns its lies: whose address it says it has and where its streams come from, how fast it changes its mind, whom it
//! accuses, and what it says it holds. Its certificate is as good as any. Must never touch anything but what its own machine
//! sends.

use std::net::IpAddr;

use weft_core::{
    membership::Digests,
    types::{NodeName, Revision, UnderlayAddress},
};

use super::{
    agent,
    link::Up,
    server::OWN,
    world::{Event, World},
};
use crate::cluster::Report;

/// The last octet of each subnet's router.
pub(super) const ROUTER: u8 = 253;
/// Between two changes of a flood, in milliseconds: fifty a second.
const FLOOD_MS: u64 = 20;

/// What one machine lies about at present.
#[derive(Debug, Clone, Default)]
pub(super) struct Lies {
    /// The address that it reports instead of its own.
    pub(super) address: Option<UnderlayAddress>,
    /// Where its streams come from: whoever is on the link can have that of a neighbour.
    pub(super) source: Option<IpAddr>,
    pub(super) mtu: Option<u32>,
    /// Addresses that it calls routers.
    pub(super) routers: Vec<IpAddr>,
    /// All others, while so many of them are said to answer.
    pub(super) accuses: Option<u32>,
}

impl World {
    /// One machine of most worlds.
    pub(super) fn choose_liar(&mut self) {
        if self.random.chance(60) {
            let number = self.random.below(self.agents.len());
            self.agents[number].lies = Some(Lies::default());
            self.soon(1000, 5000, Event::Lie);
        }
    }

    pub(super) fn liar(&self) -> Option<usize> {
        self.agents.iter().position(|agent| agent.lies.is_some())
    }

    pub(super) fn is_liar(&self, number: usize) -> bool {
        self.agents[number].lies.is_some()
    }

    /// True for a name that no machine lies under.
    pub(super) fn is_honest(&self, name: &NodeName) -> bool {
        self.liar().is_none_or(|liar| self.agents[liar].name != *name)
    }

    /// One lie, and soon the next.
    pub(super) fn lie(&mut self) {
        let Some(number) = self.liar().filter(|_| !self.is_healing) else { return };
        self.soon(50, 3000, Event::Lie);
        match self.random.between(0, 99) {
            0..25 => self.claim(number),
            25..45 => self.spoof(number),
            45..60 => self.claim_what_no_node_has(number),
            60..68 => self.begin_flood(number),
            68..82 => self.accuse(number),
            82..92 => self.acknowledge_all(number),
            _ => self.speak_the_truth(number),
        }
    }

    fn lies(&mut self, number: usize) -> &mut Lies {
        self.agents[number].lies.get_or_insert_default()
    }

    /// Another's address, on a stream from its own.
    fn claim(&mut self, number: usize) {
        let other = self.random.below(self.agents.len() + 1);
        let address = match self.agents.get(other).filter(|_| other != number) {
            Some(victim) => victim.address,
            None => agent::address(other as u64, &mut self.random),
        };
        self.counts.claims += 1;
        self.say(|world| format!("{} says that it has {address}", world.agents[number].name));
        *self.lies(number) = Lies { address: Some(address), source: None, ..self.lies(number).clone() };
        self.tell_somehow(number);
    }

    /// Another's address, on a stream that comes from there.
    fn spoof(&mut self, number: usize) {
        let other = self.random.below(self.agents.len());
        let address = self.agents[other].address;
        if other == number {
            return;
        }
        self.counts.spoofs += 1;
        self.say(|world| format!("{} speaks from {address}, and says that it has it", world.agents[number].name));
        *self.lies(number) =
            Lies { address: Some(address), source: Some(address.address()), ..self.lies(number).clone() };
        self.client_resyncs(number);
    }

    /// A router's address, the controller's, those that no host has, and a pod's; its routers are the other nodes.
    fn claim_what_no_node_has(&mut self, number: usize) {
        let IpAddr::V4(own) = self.agents[number].address.address() else { return };
        let [a, b, c, _] = own.octets();
        let strange =
            [[a, b, c, ROUTER].into(), OWN, [a, b, c, 255].into(), [a, b, c, 0].into(), [10, 244, 0, 9].into()];
        let address =
            UnderlayAddress::new(strange[self.random.below(strange.len())], 24).expect("usable at first sight");
        self.counts.strange_claims += 1;
        self.say(|world| format!("{} says that it has {address}", world.agents[number].name));
        let routers: Vec<IpAddr> = self.agents.iter().map(|agent| agent.address.address()).collect();
        *self.lies(number) = Lies { address: Some(address), source: None, routers, ..self.lies(number).clone() };
        self.tell_somehow(number);
    }

    /// On the open stream, or with the Hello of a new one.
    fn tell_somehow(&mut self, number: usize) {
        if self.random.chance(50) { self.tell_facts(number) } else { self.client_resyncs(number) }
    }

    fn begin_flood(&mut self, number: usize) {
        self.counts.floods += 1;
        let left = self.random.between(50, 250);
        self.say(|world| format!("{} changes its facts {left} times", world.agents[number].name));
        self.after(0, Event::Flood(number, left));
    }

    /// The next change of a flood.
    pub(super) fn flood(&mut self, number: usize, left: u64) {
        if self.is_healing || left == 0 {
            return;
        }
        let mtu = u32::try_from(self.random.between(1280, 9000)).expect("small");
        self.lies(number).mtu = Some(mtu);
        self.tell_facts(number);
        self.after(FLOOD_MS, Event::Flood(number, left - 1));
    }

    fn accuse(&mut self, number: usize) {
        let answering = [0, 1, 9][self.random.below(3)];
        self.counts.accusations += 1;
        self.say(|world| format!("{} says that nobody answers its probes but {answering}", world.agents[number].name));
        self.lies(number).accuses = Some(answering);
        self.tell(number);
    }

    /// Whatever there is, and more.
    fn acknowledge_all(&mut self, number: usize) {
        let Some(server) = &self.server else { return };
        let newest = server.actor.publisher.fanout().revision();
        let beyond = [0, 0, 1, 1_000_000][self.random.below(4)];
        let applied = Some(Revision::new(newest.epoch, newest.sequence + beyond));
        let Some(link) = self.link_of(number) else { return };
        self.counts.false_holdings += 1;
        self.say(|world| format!("{} acknowledges {applied:?}, whatever it holds", world.agents[number].name));
        self.send_up(link, Up::Report(Report { applied, cleaned_up: true, ..Report::default() }));
    }

    /// What the leader holds.
    pub(super) fn newest(&self) -> Option<(Revision, Digests)> {
        let (content, digests) = self.server.as_ref()?.actor.publisher.fanout().contents();
        Some((content.revision, digests))
    }

    fn speak_the_truth(&mut self, number: usize) {
        self.say(|world| format!("{} says nothing but the truth for now", world.agents[number].name));
        *self.lies(number) = Lies::default();
        self.client_resyncs(number);
    }

    /// Nobody's streams come from another's address any more; half of the liars are set up anew, the others go on.
    pub(super) fn stop_lies(&mut self) {
        let Some(number) = self.liar() else { return };
        self.agent_stop(number);
        if self.random.chance(50) {
            self.lies(number).source = None;
            return self.say(|world| format!("{} goes on lying", world.agents[number].name));
        }
        self.say(|world| format!("{} is set up anew", world.agents[number].name));
        let agent = &mut self.agents[number];
        (agent.lies, agent.state.last_good) = (None, None);
        agent.kernel.clear();
    }
}
