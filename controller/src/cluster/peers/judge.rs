//! The judgement over one node.
//!
//! Owns which evidence weighs more: a missing stream before the node's own word, that before what others' probes say,
//! that before a late acknowledgement. Must never believe a node that reaches nobody about the others: its own link is
//! the likelier culprit.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;
use weft_core::{
    standing::{Health, PeerProblem, Reason, State},
    types::{NodeName, UnixMs},
};

use super::super::{
    Refusal,
    sessions::{Live, Sessions},
};
use crate::store::NodeRecord;

/// A lag shorter than this is the normal course of a change.
const PATIENCE: Duration = Duration::from_secs(5);
/// Nodes that a message names before it counts the rest.
const NAMED: usize = 4;

/// How a node stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) state: State,
    pub(super) reason: Option<Reason>,
    pub(super) message: String,
    /// Where it is known better than by the time of judging.
    pub(super) since: Option<UnixMs>,
}

impl Judgement {
    fn new(state: State, reason: Reason, message: String) -> Self {
        Self { state, reason: Some(reason), message, since: None }
    }

    /// A node whose agent is turned away for its addresses has no stream because of that.
    pub(super) fn refused(self, refusal: Option<&Refusal>) -> Self {
        match (refusal, self.state) {
            (Some(refusal), State::Pending) => Self::new(self.state, Reason::NoUnderlayAddress, refusal.to_string()),
            (Some(refusal), State::Disconnected) => {
                Self { message: format!("{}; it is turned away: {refusal}", self.message), ..self }
            }
            _ => self,
        }
    }

    /// A node whose address another one reports too, in vain, is well, and its operator wants to know.
    pub(super) fn claimed(self, claim: Option<&Refusal>) -> Self {
        let Some(Refusal::AddressTaken { address, node, .. } | Refusal::AddressHeld { address, node, .. }) = claim
        else {
            return self;
        };
        let told = format!("node {node} reports the underlay address {address} of this node too, and does not get it");
        let message = if self.message.is_empty() { told } else { format!("{}; {told}", self.message) };
        Self { message, ..self }
    }

    /// A node without a pod CIDR waits for one, however well its agent is.
    pub(super) fn given(self, node: &NodeRecord, problem: Option<&Refusal>) -> Self {
        match problem {
            Some(problem) if node.pod_cidrs.is_empty() => {
                Self::new(State::Pending, problem.reason().into(), problem.to_string())
            }
            _ => self,
        }
    }
}

impl Judgement {
    /// A node that is well but for its agent, which is too old for what is announced: it was downgraded, or came late.
    pub(super) fn following(self, node: &NodeRecord, needed: u32) -> Self {
        let Some(facts) = node.facts.as_ref().filter(|facts| self.state == State::Ready && facts.generation < needed)
        else {
            return self;
        };
        let version = if facts.agent_version.is_empty() { "unknown" } else { &facts.agent_version };
        let message = format!(
            "its agent, version {version}, does not follow all of the cluster's settings, which newer agents do: upgrade it"
        );
        Self::new(State::Degraded, Reason::NeedsNewerAgent, message)
    }
}

/// What other nodes' probes say of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Probed {
    /// Nobody has said anything.
    #[default]
    Unknown,
    /// Whoever probes it is answered.
    Answers,
    /// Probes are lost: a sentence for people.
    Lost(String),
}

/// What all streams together say.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    accused: HashMap<&'a NodeName, Vec<(&'a NodeName, &'a PeerProblem)>>,
    /// Those whose probes reach nobody.
    isolated: HashSet<&'a NodeName>,
    /// Those whose probes reach somebody.
    witnesses: HashSet<&'a NodeName>,
}

impl<'a> Evidence<'a> {
    pub(super) fn gather(sessions: &'a Sessions) -> Self {
        let mut evidence = Self { accused: HashMap::new(), isolated: HashSet::new(), witnesses: HashSet::new() };
        for (node, live) in sessions.iter() {
            let health = &live.health;
            if health.healthy_count > 0 {
                evidence.witnesses.insert(node);
            } else if lost_probes(health) >= 2 {
                evidence.isolated.insert(node);
                continue;
            }
            for problem in health.peers.iter().filter(|problem| problem.reason == Reason::ProbeLost) {
                evidence.accused.entry(&problem.node).or_default().push((node, problem));
            }
        }
        for accusers in evidence.accused.values_mut() {
            accusers.sort_unstable_by_key(|(accuser, _)| *accuser);
            // However often one says it, it is one.
            accusers.dedup_by_key(|(accuser, _)| *accuser);
        }
        evidence
    }

    pub(super) fn judge(&self, node: &NodeRecord, sessions: &Sessions, now: Instant) -> Judgement {
        let name = &node.name;
        let Some(live) = sessions.get(name) else { return self.silent(node) };
        if let Some(problem) = &live.health.problem {
            return Judgement::new(State::Degraded, problem.reason.clone(), problem.message.clone());
        }
        if self.isolated.contains(name) {
            let count = live.health.problem_count;
            let message = format!("none of {count} peers answers its probes: check the underlay of this node");
            return Judgement::new(State::Unreachable, Reason::ProbeLost, message);
        }
        let accusers = self.accused.get(name);
        if let Some(accusers) = accusers.filter(|accusers| !self.is_of_a_pair(name, accusers)) {
            return Judgement::new(State::Unreachable, accusers[0].1.reason.clone(), accusation(accusers));
        }
        Self::progress(live, sessions, now)
    }

    /// What is known of a node by probes alone.
    pub(super) fn probed(&self, node: &NodeName) -> Probed {
        if self.isolated.contains(node) {
            return Probed::Lost("none of its own probes is answered".to_owned());
        }
        match self.accused.get(node) {
            Some(accusers) => Probed::Lost(accusation(accusers)),
            None if self.witnesses.iter().any(|witness| *witness != node) => Probed::Answers,
            None => Probed::Unknown,
        }
    }

    fn silent(&self, node: &NodeRecord) -> Judgement {
        let name = &node.name;
        if node.facts.is_none() {
            let message = "it has joined, but its agent never opened a stream: start weft-agent on it".to_owned();
            let judgement = Judgement::new(State::Pending, Reason::NeverConnected, message);
            return Judgement { since: Some(node.joined), ..judgement };
        }
        let accusers = self.accused.get(name).map_or(&[][..], Vec::as_slice);
        let blind: HashSet<&NodeName> = accusers.iter().map(|(accuser, _)| *accuser).collect();
        let seeing = self.witnesses.iter().filter(|witness| !blind.contains(**witness)).count();
        let found = match (accusers, seeing) {
            ([], 0) => "no probes of other nodes are known yet".to_owned(),
            ([], seeing) => format!("it still answers probes of {seeing} nodes"),
            (accusers, 0) => accusation(accusers),
            (accusers, seeing) => format!("{}, while it answers those of {seeing} nodes", accusation(accusers)),
        };
        let message = format!("its agent is not connected; {found}");
        Judgement::new(State::Disconnected, Reason::AgentDisconnected, message)
    }

    /// One member's word alone makes no other unreachable while somebody else's probes arrive where they should: it is a
    /// problem between the two. The only witness is believed: a node of two that is cut off cannot say so itself.
    fn is_of_a_pair(&self, accused: &NodeName, accusers: &[(&NodeName, &PeerProblem)]) -> bool {
        let [(accuser, _)] = accusers else { return false };
        self.witnesses.iter().any(|witness| *witness != accused && witness != accuser)
    }

    fn progress(live: &Live, sessions: &Sessions, now: Instant) -> Judgement {
        let pending = |message: String| Judgement::new(State::Pending, Reason::NotAcknowledged, message);
        if live.acknowledged.is_none() {
            return pending("its agent is connected and has not confirmed its kernel's state yet".to_owned());
        }
        match sessions.behind_since(live) {
            Some((since, unix)) if now.duration_since(since) >= PATIENCE => {
                let message = "its agent is late with acknowledging the newest changes: look at its log".to_owned();
                Judgement { since: Some(unix), ..pending(message) }
            }
            _ => Judgement { state: State::Ready, message: of_pairs(&live.health), ..Judgement::default() },
        }
    }
}

/// What a node that is well lacks for some of its peers: their packets are lost, and nobody else's.
fn of_pairs(health: &Health) -> String {
    let mut others = health.peers.iter().filter(|problem| problem.reason != Reason::ProbeLost);
    let Some(first) = others.next() else { return String::new() };
    let more = match others.count() {
        0 => String::new(),
        more => format!(" (and {more} more peers)"),
    };
    format!("it lacks what its peer {} needs: {}{more}", first.node, first.message)
}

/// How many peers do not answer a node's probes, as far as it names them: what else it has trouble with is its own.
fn lost_probes(health: &Health) -> u32 {
    let others = health.peers.iter().filter(|problem| problem.reason != Reason::ProbeLost).count();
    health.problem_count.saturating_sub(u32::try_from(others).unwrap_or(u32::MAX))
}

fn accusation(accusers: &[(&NodeName, &PeerProblem)]) -> String {
    let named: Vec<&str> = accusers.iter().take(NAMED).map(|(accuser, _)| accuser.as_str()).collect();
    let rest = accusers.len() - named.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let first = accusers[0].1;
    let detail = if first.message.is_empty() { String::new() } else { format!(" ({})", first.message) };
    match &first.reason {
        Reason::ProbeLost => format!("no answer to probes from {}{more}{detail}", named.join(", ")),
        reason => format!("{reason} reported by {}{more}{detail}", named.join(", ")),
    }
}
