//! How a node stands, and what it says of itself.
//!
//! Owns the words: states, the reason of each with a line of what it means, and what an agent reports of its node and its peers.
//! Must never judge: those who see judge, and this is what they say.

mod facts;
mod reason;

use std::time::Duration;

pub use self::{
    facts::{Facts, GATEWAYS},
    reason::Reason,
};
use crate::{
    membership::Path,
    types::{Family, Mac, NodeName, PerFamily, PodCidr, Revision, UnderlayAddress, UnixMs},
};

/// How a node stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Its kernel was read back whole, and no probe of it is lost.
    Ready,
    /// It has joined and is not there yet.
    #[default]
    Pending,
    /// Its agent has no stream to the controller.
    Disconnected,
    /// It lacks something of its own.
    Degraded,
    /// Probes do not reach it.
    Unreachable,
}

/// What is wrong: a word for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which kind.
    pub reason: Reason,
    /// What was seen, with the objects concerned.
    pub message: String,
}

/// A peer that is not well as another node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerProblem {
    /// The peer.
    pub node: NodeName,
    /// Which kind.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// Since when, by the agent's clock.
    pub since: UnixMs,
}

/// What an agent says of its node and its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong with the node itself; none if its kernel holds all that it should.
    pub problem: Option<Problem>,
    /// Peers that are not well, not more than a message may name.
    pub peers: Vec<PeerProblem>,
    /// Peers with a problem altogether.
    pub problem_count: u32,
    /// Peers that answered their last probe.
    pub healthy_count: u32,
}

impl Health {
    /// The reason of the node's own problem.
    pub fn reason(&self) -> Option<&Reason> {
        self.problem.as_ref().map(|problem| &problem.reason)
    }
}

/// A row of the peer list.
#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// The node.
    pub node: NodeName,
    /// Its pod CIDRs.
    pub pod_cidrs: PerFamily<Option<PodCidr>>,
    /// Its underlay addresses.
    pub underlay: PerFamily<Option<UnderlayAddress>>,
    /// How each family is reached.
    pub paths: Vec<FamilyPath>,
    /// How it stands.
    pub state: State,
    /// What is wrong; a node that is ready may have a message without one.
    pub reason: Option<Reason>,
    /// A sentence for people: what was seen and what to do about it; may be empty.
    pub message: String,
    /// Since when it is in this state, if that is known.
    pub since: Option<UnixMs>,
    /// Changes that it has not acknowledged, as far as the controller says.
    pub revision_lag: u64,
    /// Its VTEP's.
    pub mac: Mac,
    /// Version that its agent reported, as far as it is known.
    pub agent_version: Option<String>,
    /// MTU of its underlay in bytes, as far as it is known.
    pub underlay_mtu: Option<u32>,
    /// The revision that it last acknowledged, as far as the controller says.
    pub applied: Option<Revision>,
}

/// How a node is reached in one family: by one node, or counted over all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyPath {
    /// The family of the pods.
    pub family: Family,
    /// How the asked node reaches it; none if all nodes were asked.
    pub way: Option<Way>,
    /// How many nodes reach it by the plain route.
    pub direct: u32,
    /// How many by the tunnel.
    pub tunnel: u32,
    /// How many not at all.
    pub unreached: u32,
    /// Round trip of the last probe that was answered.
    pub rtt: Option<Duration>,
}

/// How one node reaches another, or itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is the node itself.
    Local,
    /// By a route.
    By(Path),
}
