//! Streams between an agent and the controller.
//!
//! Owns their two directions: inside one everything keeps its order, between two nothing does. A link may be cut, which
//! each end notices in its own time, and what was under way is lost.

use std::{collections::VecDeque, net::IpAddr};

use tonic::Code;
use weft_core::{membership::Told, standing::Facts, types::Revision};
use weft_proto::v1;

use super::world::{Event, World};
use crate::cluster::{NodeIdentity, Report};

/// What an agent says.
#[derive(Debug)]
pub(super) enum Up {
    Hello { identity: NodeIdentity, held: (Option<Revision>, Option<Told>), facts: Facts },
    Report(Report),
}

/// What the controller says.
#[derive(Debug)]
pub(super) enum Down {
    Message(v1::WatchResponse),
    End(Code),
}

/// A stream.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) agent: usize,
    /// The agent's run that opened it.
    pub(super) run: u64,
    pub(super) source: IpAddr,
    pub(super) up: VecDeque<Up>,
    pub(super) down: VecDeque<Down>,
    up_at: u64,
    down_at: u64,
    pub(super) agent_open: bool,
    pub(super) server_open: bool,
    /// Nothing gets through any more.
    pub(super) is_cut: bool,
}

impl World {
    pub(super) fn open_link(&mut self, agent: usize, run: u64) -> u64 {
        let number = self.number();
        let link = Link {
            agent,
            run,
            source: self.agents[agent].source(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_at: self.now,
            down_at: self.now,
            agent_open: true,
            server_open: true,
            is_cut: false,
        };
        self.links.insert(number, link);
        number
    }

    pub(super) fn send_up(&mut self, number: u64, message: Up) {
        let delay = self.delay();
        let Some(link) = self.links.get_mut(&number) else { return };
        link.up.push_back(message);
        link.up_at = link.up_at.max(self.now + delay);
        let wait = link.up_at - self.now;
        self.after(wait, Event::ToServer(number));
    }

    pub(super) fn send_down(&mut self, number: u64, message: Down) {
        let delay = self.delay();
        let Some(link) = self.links.get_mut(&number) else { return };
        link.down.push_back(message);
        link.down_at = link.down_at.max(self.now + delay);
        let wait = link.down_at - self.now;
        self.after(wait, Event::ToAgent(number));
    }

    /// Mostly a moment; now and then a packet has to be sent again.
    fn delay(&mut self) -> u64 {
        match self.random.between(0, 19) {
            0 => self.random.between(200, 3000),
            _ => self.random.between(0, 20),
        }
    }

    /// False where a message cannot come through now; it is tried again where it may later.
    fn comes_through(&mut self, number: u64, again: Event) -> bool {
        let Some(link) = self.links.get(&number) else { return false };
        if link.is_cut {
            return false;
        }
        let healed = self.agents[link.agent].parted_until;
        if healed > self.now {
            self.after(healed - self.now, again);
            return false;
        }
        true
    }

    pub(super) fn deliver_up(&mut self, number: u64) {
        if !self.comes_through(number, Event::ToServer(number)) {
            return;
        }
        let Some(link) = self.links.get_mut(&number) else { return };
        let (is_open, message) = (link.server_open, link.up.pop_front());
        match message {
            Some(_) if !is_open || self.server.is_none() => self.soon(0, 20, Event::AgentNotices(number)),
            Some(message) => self.server_hears(number, message),
            None => {}
        }
    }

    pub(super) fn deliver_down(&mut self, number: u64) {
        if !self.comes_through(number, Event::ToAgent(number)) {
            return;
        }
        let Some(link) = self.links.get(&number) else { return };
        let (agent, is_open) = (link.agent, link.agent_open && self.agents[link.agent].run == link.run);
        if !is_open {
            return;
        }
        if self.agents[agent].is_full() {
            return self.after(100, Event::ToAgent(number));
        }
        if let Some(message) = self.links.get_mut(&number).and_then(|link| link.down.pop_front()) {
            self.agent_hears(agent, number, message);
            self.after(0, Event::Pump(number));
        }
    }

    /// Cuts a link: each end finds out in its own time.
    pub(super) fn cut(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.is_cut = true;
        let far = [50, 5000, 40_000][self.random.below(3)];
        self.soon(0, far, Event::AgentNotices(number));
        self.soon(0, far, Event::ServerNotices(number));
    }

    /// The agent's end is closed by itself; the other end hears of it unless nothing gets through.
    pub(super) fn close_by_agent(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.agent_open = false;
        let agent = link.agent;
        let parted = self.agents[agent].parted_until.saturating_sub(self.now);
        if parted == 0 && !self.links[&number].is_cut {
            self.soon(0, 50, Event::ServerNotices(number));
        } else {
            self.soon(0, parted.max(1) + 40_000, Event::ServerNotices(number));
        }
    }

    /// The controller's end is gone without a word, as when it crashed.
    pub(super) fn orphan(&mut self, number: u64) {
        let Some(link) = self.links.get_mut(&number) else { return };
        link.server_open = false;
        let parted = self.agents[self.links[&number].agent].parted_until.saturating_sub(self.now);
        let far = if parted == 0 { 1000 } else { parted + 40_000 };
        self.soon(0, far, Event::AgentNotices(number));
    }

    /// Forgets links that neither end has any more.
    pub(super) fn tidy_links(&mut self) {
        let agents = &self.agents;
        self.links.retain(|_, link| link.server_open || (link.agent_open && agents[link.agent].run == link.run));
    }
}
