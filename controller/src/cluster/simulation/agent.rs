//! An agent: what of it survives what.
//!
//! Owns its disk, its kernel and its one run, which ends and begins again.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
};

use weft_core::{
    desired::{Local, NexthopIds, Underlay},
    kernel::Objects,
    masquerade::Unmasqueraded,
    membership::{Delta, Digests, Snapshot, Told, View},
    settings::GENERATION,
    standing::Facts,
    types::{LinkName, NodeName, PerFamily, Revision, UnderlayAddress},
};

use super::{
    Checked, Planted,
    client::Client,
    kernel::Kernel,
    lies::{Lies, ROUTER},
    random::Random,
    versions,
    world::{Event, World},
};
use crate::{cluster::NodeIdentity, pki::JoinToken, store::TokenId};

/// Updates that wait for the engine at most, as in the agent.
const QUEUE: usize = 16;

/// What is in the agent's state directory.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) key: [u8; 32],
    pub(super) identity: Option<NodeIdentity>,
    pub(super) used_token: Option<TokenId>,
    pub(super) last_good: Option<LastGood>,
}

/// The last good membership on a disk.
#[derive(Debug, Clone)]
pub(super) struct LastGood {
    pub(super) snapshot: Snapshot,
    /// False where version 0.1 wrote it.
    pub(super) is_whole: bool,
}

/// A disk that does not write.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Trouble {
    pub(super) until: u64,
    /// It refuses, instead of making the writer wait.
    pub(super) is_failing: bool,
}

/// What the client hands to the engine.
#[derive(Debug)]
pub(super) enum Update {
    Snapshot(Snapshot, Told),
    Delta(Delta),
    /// At a revision, what the Hello told; whether the leader knows of anything more.
    Current(Revision, Digests, bool),
}

/// A run of the agent.
pub(super) struct Run {
    pub(super) view: View,
    /// False while a part is held, from the disk of version 0.1.
    pub(super) is_whole: bool,
    pub(super) ids: NexthopIds,
    pub(super) desired: Objects,
    /// What the engine told of itself for the next Hello.
    pub(super) held: (Option<Revision>, Option<Digests>),
    /// What waits for the engine, with the life that the stream was opened for.
    pub(super) updates: VecDeque<(u64, Update)>,
    pub(super) is_busy: bool,
    pub(super) tidy_due: bool,
    pub(super) applied: Option<Revision>,
    pub(super) is_degraded: bool,
    pub(super) client: Client,
}

/// An agent.
pub(super) struct Agent {
    pub(super) name: NodeName,
    /// It is of version 0.1.
    pub(super) is_old: bool,
    pub(super) state: State,
    /// Copies of the state directory from earlier days.
    pub(super) backups: Vec<State>,
    /// The token that the operator left on the node.
    pub(super) token: Option<JoinToken>,
    pub(super) kernel: Kernel,
    pub(super) address: UnderlayAddress,
    pub(super) mtu: u32,
    /// A member that was taken over, and what it says.
    pub(super) lies: Option<Lies>,
    /// Counts its runs.
    pub(super) run: u64,
    pub(super) process: Option<Run>,
    pub(super) parted_until: u64,
    pub(super) slow_until: u64,
    pub(super) broken_until: u64,
    /// Its disk takes nothing, or not yet.
    pub(super) disk: Trouble,
    /// So long an acknowledgement may be late, and is the agent's own fault.
    pub(super) excused_until: u64,
    /// Never starts again.
    pub(super) is_retired: bool,
}

impl Agent {
    pub(super) fn new(number: u64, random: &mut Random) -> Self {
        Self {
            name: format!("n{number}").parse().expect("a name"),
            is_old: false,
            state: State { key: key(random), identity: None, used_token: None, last_good: None },
            backups: Vec::new(),
            token: None,
            kernel: Kernel::default(),
            address: address(number, random),
            mtu: 1500,
            lies: None,
            run: 0,
            process: None,
            parted_until: 0,
            slow_until: 0,
            broken_until: 0,
            disk: Trouble::default(),
            excused_until: 0,
            is_retired: false,
        }
    }

    /// A copy of the machine with its disk, as of a virtual one that was cloned: it takes itself for the same node.
    pub(super) fn twin(&self, random: &mut Random) -> Self {
        let mut twin = Self::new(random.between(0, 4), random);
        twin.name = self.name.clone();
        twin.state = self.state.clone();
        twin.token = self.token.clone();
        twin
    }

    /// What it says of itself.
    pub(super) fn facts(&self) -> Facts {
        let lies = self.lies.as_ref();
        let address = lies.and_then(|lies| lies.address).unwrap_or(self.address);
        Facts {
            underlay: PerFamily { v4: Some(address), v6: None },
            underlay_mtu: lies.and_then(|lies| lies.mtu).unwrap_or(self.mtu),
            gateways: lies.map_or_else(|| vec![self.router()], |lies| lies.routers.clone()),
            agent_version: if self.is_old { "0.1.0".to_owned() } else { "0.2.0".to_owned() },
            generation: if self.is_old { 0 } else { GENERATION },
        }
    }

    /// Where its streams come from.
    pub(super) fn source(&self) -> IpAddr {
        self.lies.as_ref().and_then(|lies| lies.source).unwrap_or(self.address.address())
    }

    fn router(&self) -> IpAddr {
        match self.address.address() {
            IpAddr::V4(own) => [own.octets()[0], own.octets()[1], own.octets()[2], ROUTER].into(),
            IpAddr::V6(_) => unreachable!("underlays are IPv4 here"),
        }
    }

    pub(super) fn local(&self) -> Local {
        let link = |name: &str| LinkName::new(name).expect("a link name");
        Local {
            device: link("weft0"),
            mtu_limit: None,
            unmasqueraded: Unmasqueraded::default(),
            underlay: Underlay {
                link: link("eth0"),
                mtu: self.mtu,
                addresses: self.underlay(),
                gateways: Default::default(),
                has_carrier: true,
                advertised_links: [].into(),
            },
        }
    }

    fn underlay(&self) -> PerFamily<Option<UnderlayAddress>> {
        PerFamily { v4: Some(self.address), v6: None }
    }

    /// True while its engine takes no more updates.
    pub(super) fn is_full(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.updates.len() >= QUEUE)
    }

    /// The run of this number, if it is the one that goes on.
    pub(super) fn running(&mut self, run: u64) -> Option<&mut Run> {
        self.process.as_mut().filter(|_| self.run == run)
    }

    pub(super) fn has_new_token(&self) -> bool {
        self.token.as_ref().is_some_and(|token| self.state.used_token != Some(token.id))
    }
}

/// A new private key, by its public half's hash.
pub(super) fn key(random: &mut Random) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&random.next().to_be_bytes());
    key
}

/// One of few addresses in two subnets.
pub(super) fn address(number: u64, random: &mut Random) -> UnderlayAddress {
    let subnet = if random.chance(50) { 2 } else { 3 };
    let last = u8::try_from(number + 1).expect("few nodes");
    UnderlayAddress::new(IpAddr::from([192, 0, subnet, last]), 24).expect("a usable address")
}

impl World {
    /// Starts an agent on what its disk and its kernel hold.
    pub(super) fn agent_start(&mut self, number: usize) -> Checked {
        if self.agents[number].process.is_some() || self.agents[number].is_retired {
            return Ok(());
        }
        let agent = &mut self.agents[number];
        agent.run += 1;
        if self.random.chance(15) {
            agent.is_old = !agent.is_old;
        }
        let (mut view, mut is_whole) = (View::new(), true);
        if let Some(last_good) = agent.state.last_good.clone() {
            is_whole = last_good.is_whole || agent.is_old || self.planted == Planted::PartForWhole;
            let snapshot = if agent.is_old { versions::plain(&last_good.snapshot) } else { last_good.snapshot };
            view.apply_snapshot(snapshot).expect("an empty view takes every snapshot of ours");
        }
        agent.process = Some(Run {
            view,
            is_whole,
            ids: NexthopIds::new(),
            desired: Objects::new(),
            held: (None, None),
            updates: VecDeque::new(),
            is_busy: false,
            tidy_due: false,
            applied: None,
            is_degraded: false,
            client: Client::default(),
        });
        self.hold(number);
        let held = self.agents[number].process.as_ref().and_then(|process| process.held.0);
        self.say(|world| {
            let agent = &world.agents[number];
            format!("{} starts, holding {held:?}{}", agent.name, if agent.is_old { ", as version 0.1" } else { "" })
        });
        self.look(number)?;
        let run = self.agents[number].run;
        self.soon(500, 3000, Event::Probe(number, run));
        self.try_again(number, 0, 200);
        Ok(())
    }

    /// Ends an agent's run as a crash does.
    pub(super) fn agent_stop(&mut self, number: usize) {
        if self.agents[number].process.take().is_none() {
            return;
        }
        self.say(|world| format!("{} stops", world.agents[number].name));
        let run = self.agents[number].run;
        let links: BTreeSet<u64> =
            self.links.iter().filter(|(_, link)| link.agent == number && link.run == run).map(|(id, _)| *id).collect();
        for link in links {
            self.close_by_agent(link);
        }
        self.soon(0, 5000, Event::AgentStart(number));
    }
}
