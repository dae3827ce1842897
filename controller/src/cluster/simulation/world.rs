//! One world: its time, its events, and who takes part.
//!
//! Owns the order of everything. Must never let anything but the seed decide it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::Duration,
};

use weft_core::{
    alloc::{Pool, PoolRule},
    encap::Encapsulation,
    membership::More,
    settings::{Mode, Settings},
    types::{Family, PodCidr, Vni},
};

use super::{
    Checked, Planted, agent::Agent, bystanders::Bystanders, check::Past, client::Request, counts::Counts, disk::Disk,
    hold, link::Link, patience::Patience, random::Random, server::Server, time::SimClock,
};
use crate::cluster::{AdmissionRule, Rules};

/// Something that happens at its time. Numbers are those of agents, links and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Event {
    /// The next fault.
    Chaos,
    /// No more faults, and those there are end.
    Heal,
    /// The next lie.
    Lie,
    /// A liar's next change of facts, and how many are left.
    Flood(usize, u64),
    /// While healing: the operator does what is left to do.
    Operator,
    /// The disk writes what it confirmed too early.
    Flush,
    ServerStart,
    ServerWork,
    ServerPublish,
    /// Its disk has answered.
    ServerGoesOn,
    /// Of the controller's run of this number.
    ServerTick(u64),
    Pump(u64),
    ToServer(u64),
    ToAgent(u64),
    ServerNotices(u64),
    AgentNotices(u64),
    Ask(u64),
    Answer(u64),
    AgentStart(usize),
    /// The operator makes a token for a node.
    Token(usize),
    /// Of an agent's run of this number.
    Client(usize, u64),
    Engine(usize, u64),
    Tidy(usize, u64),
    Look(usize, u64),
    Probe(usize, u64),
}

impl Event {
    /// The controller does it, unless it waits for its disk.
    const fn is_of_server(self) -> bool {
        matches!(self, Self::ServerWork | Self::ServerPublish | Self::ServerTick(_) | Self::Pump(_))
    }

    /// Its kind and what it is about, as numbers.
    const fn parts(self) -> (u64, u64) {
        match self {
            Self::Chaos => (0, 0),
            Self::Heal => (1, 0),
            Self::Operator => (2, 0),
            Self::Flush => (3, 0),
            Self::ServerStart => (4, 0),
            Self::ServerWork => (5, 0),
            Self::ServerPublish => (6, 0),
            Self::ServerTick(run) => (7, run),
            Self::Pump(link) => (8, link),
            Self::ToServer(link) => (9, link),
            Self::ToAgent(link) => (10, link),
            Self::ServerNotices(link) => (11, link),
            Self::AgentNotices(link) => (12, link),
            Self::Ask(request) => (13, request),
            Self::Answer(request) => (14, request),
            Self::AgentStart(agent) => (15, agent as u64),
            Self::Token(agent) => (16, agent as u64),
            Self::Client(_, run) => (17, run),
            Self::Engine(_, run) => (18, run),
            Self::Tidy(_, run) => (19, run),
            Self::Look(_, run) => (20, run),
            Self::Probe(_, run) => (21, run),
            Self::Lie => (22, 0),
            Self::Flood(_, left) => (23, left),
            Self::ServerGoesOn => (24, 0),
        }
    }
}

/// What a world came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Depends on every event and its time.
    pub(super) fingerprint: u64,
    pub(super) events: u64,
    pub(super) ended_ms: u64,
    pub(super) counts: Counts,
}

/// The world.
pub(super) struct World {
    pub(super) random: Random,
    /// Milliseconds since the beginning.
    pub(super) now: u64,
    pub(super) planted: Planted,
    pub(super) clock: Arc<SimClock>,
    pub(super) disk: Disk,
    pub(super) rules: Rules,
    pub(super) server: Option<Server>,
    pub(super) server_runs: u64,
    /// The nodes, and behind them copies of some.
    pub(super) agents: Vec<Agent>,
    pub(super) nodes: usize,
    pub(super) links: BTreeMap<u64, Link>,
    pub(super) requests: BTreeMap<u64, Request>,
    pub(super) past: Past,
    pub(super) bystanders: Bystanders,
    pub(super) patience: Patience,
    pub(super) is_healing: bool,
    pub(super) is_over: bool,
    /// What happened, where somebody wants to read it.
    pub(super) story: Option<Vec<String>>,
    pub(super) counts: Counts,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    numbers: u64,
    fingerprint: u64,
    handled: u64,
}

/// Faults last so long, in milliseconds, at most.
const CHAOS_MS: u64 = 60_000;
/// After this time without agreement something is wrong.
const PATIENCE_MS: u64 = 400_000;

impl World {
    pub(super) fn new(seed: u64, planted: Planted, is_told: bool) -> Self {
        let mut random = Random::new(seed);
        let rules = first_rules(&mut random);
        let count = random.between(2, 5);
        let agents: Vec<Agent> = (0..count).map(|number| Agent::new(number, &mut random)).collect();
        let clock = Arc::new(SimClock::new());
        let mut world = Self {
            random,
            now: 0,
            planted,
            disk: Disk::new(Arc::clone(&clock), planted),
            clock,
            rules,
            server: None,
            server_runs: 0,
            nodes: agents.len(),
            agents,
            links: BTreeMap::new(),
            requests: BTreeMap::new(),
            past: Past::default(),
            bystanders: Bystanders::default(),
            patience: Patience::default(),
            is_healing: false,
            is_over: false,
            story: is_told.then(Vec::new),
            counts: Counts::default(),
            events: BinaryHeap::new(),
            numbers: 0,
            fingerprint: seed,
            handled: 0,
        };
        world.after(0, Event::ServerStart);
        world.after(100, Event::Chaos);
        for number in 0..world.agents.len() {
            world.soon(0, 2000, Event::AgentStart(number));
            world.soon(1, 4000, Event::Token(number));
        }
        world.choose_liar();
        let length = world.random.between(5_000, CHAOS_MS);
        world.after(length, Event::Heal);
        world
    }

    /// Until everybody agrees after all, or something is wrong.
    pub(super) fn run(&mut self) -> Checked<Outcome> {
        while !self.is_over {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.now = at;
            self.clock.set(at);
            self.handled += 1;
            self.fingerprint = mix(self.fingerprint, at, event);
            hold!(at < CHAOS_MS + PATIENCE_MS, "no agreement long after the last fault: {}", self.differences());
            self.handle(event)?;
            self.disk.checked()?;
            if self.disk.has_unwritten() {
                self.soon(0, 300, Event::Flush);
            }
        }
        hold!(self.is_over, "nothing happens any more, and there is no agreement: {}", self.differences());
        Ok(Outcome { fingerprint: self.fingerprint, events: self.handled, ended_ms: self.now, counts: self.counts })
    }

    fn handle(&mut self, event: Event) -> Checked {
        let stalled = self.stalled_for();
        if stalled > 0 && event.is_of_server() {
            self.after(stalled, event);
            return Ok(());
        }
        match event {
            Event::Chaos => self.chaos(),
            Event::Heal => self.heal(),
            Event::Lie => self.lie(),
            Event::Flood(agent, left) => self.flood(agent, left),
            Event::Operator => self.operate(),
            Event::Flush => return self.disk.flush(),
            Event::ServerStart => return self.server_start(),
            Event::ServerWork => return self.server_work(),
            Event::ServerPublish => return self.server_publish(),
            Event::ServerGoesOn => return self.server_goes_on(),
            Event::ServerTick(run) => return self.server_tick(run),
            Event::Pump(link) => return self.pump(link),
            Event::ToServer(link) => self.deliver_up(link),
            Event::ToAgent(link) => self.deliver_down(link),
            Event::ServerNotices(link) => self.server_notices(link),
            Event::AgentNotices(link) => self.agent_notices(link),
            Event::Ask(request) => self.request_arrives(request),
            Event::Answer(request) => self.answer_arrives(request),
            Event::Token(agent) => self.make_token(agent),
            Event::AgentStart(agent) => return self.agent_start(agent),
            Event::Client(agent, run) => self.client(agent, run),
            Event::Engine(agent, run) => return self.engine(agent, run),
            Event::Tidy(agent, run) => self.tidy(agent, run),
            Event::Look(agent, run) => return self.look_again(agent, run),
            Event::Probe(agent, run) => self.probe(agent, run),
        }
        Ok(())
    }

    /// An event so many milliseconds from now.
    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.numbers += 1;
        self.events.push(Reverse((self.now + delay, self.numbers, event)));
    }

    /// An event at a random time.
    pub(super) fn soon(&mut self, least: u64, most: u64, event: Event) {
        let delay = self.random.between(least, most);
        self.after(delay, event);
    }

    /// A number that nothing else has.
    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Adds to the story, where there is one.
    pub(super) fn say(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.story.is_some() {
            let line = format!("{:>7} ms  {}", self.now, text(self));
            self.story.get_or_insert_default().push(line);
        }
    }
}

fn mix(fingerprint: u64, at: u64, event: Event) -> u64 {
    let (kind, number) = event.parts();
    Random::new(fingerprint ^ at.rotate_left(32) ^ kind.rotate_left(56) ^ number).next()
}

/// Pools with room for two nodes each, so that they run full.
pub(super) fn pool_v4(number: u8) -> Pool {
    pool(&format!("10.244.0.{}/29", number * 8), 30)
}

/// Room for four.
pub(super) fn pool_v6() -> Pool {
    pool("fd00:244::/62", 64)
}

fn pool(cidr: &str, node_prefix: u8) -> Pool {
    Pool::new(cidr.parse().expect("a pod CIDR"), node_prefix).expect("a pool")
}

fn first_rules(random: &mut Random) -> Rules {
    let mut pools: Vec<Pool> = (0..random.between(1, 3)).map(|n| pool_v4(u8::try_from(n).expect("few"))).collect();
    if random.chance(20) {
        pools.push(pool_v6());
    }
    let settings = Settings {
        pools: networks(&pools),
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("in range"), port: 4789, outer: Family::V4 },
        more: if random.chance(60) { More::new([8, 1]) } else { More::default() },
    };
    Rules {
        mtu: None,
        underlay_networks: Vec::new(),
        settings,
        pools: pools.into_iter().map(PoolRule::from).collect(),
        admission: AdmissionRule::Tokens,
        acknowledge_timeout: Duration::from_secs(30),
        reconnect_grace: Duration::from_secs(random.between(0, 15)),
        lives_kept: Duration::from_secs(86_400),
        force_settings: random.chance(50),
        coalesce: Duration::from_millis(random.between(0, 100)),
    }
}

fn networks(pools: &[Pool]) -> Vec<PodCidr> {
    let mut networks: Vec<PodCidr> = pools.iter().map(Pool::cidr).collect();
    networks.sort_unstable();
    networks
}
