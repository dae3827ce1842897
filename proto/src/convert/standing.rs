//! How nodes stand, and what agents report of them.
//!
//! Owns the bounds of what an agent may say of itself and its peers: it fills nobody's memory.

use std::time::Duration;

use weft_core::{
    membership::Path,
    standing::{FamilyPath, Health, Peer, PeerProblem, Problem, Reason, State, Way},
    types::{NodeName, UnixMs},
};

use super::addresses::to_cidr;
use crate::v1;

/// Peers with problems that are kept.
const PROBLEMS: usize = 64;
/// The longest text that is kept whole, in bytes.
const TEXT: usize = 512;

impl From<v1::Health> for Health {
    /// Cuts what is too long, and leaves out peers that no node is called like.
    fn from(wire: v1::Health) -> Self {
        let v1::Health { reason, message, problems, problem_count, healthy_count } = wire;
        let problem = (!reason.is_empty()).then(|| Problem { reason: word(&reason), message: bounded(message) });
        let peers = problems.into_iter().take(PROBLEMS).filter_map(peer_problem).collect();
        Self { problem, peers, problem_count, healthy_count }
    }
}

impl From<&Health> for v1::Health {
    fn from(health: &Health) -> Self {
        let (reason, message) = match &health.problem {
            Some(problem) => (problem.reason.to_string(), problem.message.clone()),
            None => Default::default(),
        };
        let problems = health.peers.iter().map(|problem| v1::PeerProblem {
            node: problem.node.to_string(),
            reason: problem.reason.to_string(),
            message: problem.message.clone(),
            since_unix_ms: problem.since.0,
        });
        Self {
            reason,
            message,
            problems: problems.collect(),
            problem_count: health.problem_count,
            healthy_count: health.healthy_count,
        }
    }
}

fn peer_problem(wire: v1::PeerProblem) -> Option<PeerProblem> {
    let v1::PeerProblem { node, reason, message, since_unix_ms } = wire;
    Some(PeerProblem {
        node: NodeName::new(&node).ok()?,
        reason: word(&reason),
        message: bounded(message),
        since: UnixMs(since_unix_ms),
    })
}

fn word(reason: &str) -> Reason {
    if reason.len() > TEXT { Reason::from(bounded(reason.to_owned()).as_str()) } else { Reason::from(reason) }
}

fn bounded(text: String) -> String {
    // A character has at most four bytes.
    if text.len() > TEXT { text.chars().take(TEXT / 4).collect() } else { text }
}

impl From<State> for v1::PeerState {
    fn from(state: State) -> Self {
        match state {
            State::Ready => Self::Ready,
            State::Pending => Self::Pending,
            State::Disconnected => Self::Disconnected,
            State::Degraded => Self::Degraded,
            State::Unreachable => Self::Unreachable,
        }
    }
}

impl From<&Peer> for v1::Peer {
    fn from(peer: &Peer) -> Self {
        Self {
            node: peer.node.to_string(),
            pod_cidrs: peer.pod_cidrs.iter().map(|cidr| to_cidr(cidr.network())).collect(),
            underlay_addresses: peer.underlay.iter().map(|underlay| to_cidr(underlay.network())).collect(),
            paths: peer.paths.iter().map(v1::FamilyPath::from).collect(),
            state: v1::PeerState::from(peer.state).into(),
            reason: peer.reason.as_ref().map(ToString::to_string).unwrap_or_default(),
            message: peer.message.clone(),
            since_unix_ms: peer.since.map_or(0, |since| since.0),
            revision_lag: peer.revision_lag,
            mac: peer.mac.octets().to_vec(),
            agent_version: peer.agent_version.clone().unwrap_or_default(),
            underlay_mtu: peer.underlay_mtu.unwrap_or(0),
            applied: peer.applied.map(Into::into),
        }
    }
}

impl From<&FamilyPath> for v1::FamilyPath {
    fn from(path: &FamilyPath) -> Self {
        let way = match path.way {
            None => v1::Path::Unspecified,
            Some(Way::Local) => v1::Path::Local,
            Some(Way::By(Path::Tunnel)) => v1::Path::Vxlan,
            Some(Way::By(Path::Direct)) => v1::Path::Direct,
            Some(Way::By(Path::None)) => v1::Path::None,
        };
        let micros = |rtt: Duration| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        Self {
            family: v1::Family::from(path.family).into(),
            path: way.into(),
            direct_nodes: path.direct,
            vxlan_nodes: path.tunnel,
            unreached_nodes: path.unreached,
            rtt_us: path.rtt.map_or(0, micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(node: &str, message: String) -> v1::PeerProblem {
        v1::PeerProblem { node: node.to_owned(), reason: "ProbeLost".to_owned(), message, since_unix_ms: 7 }
    }

    #[test]
    fn what_an_agent_says_comes_back_as_it_was() {
        let wire = v1::Health {
            reason: "CanaryLost".to_owned(),
            message: "of a newer agent".to_owned(),
            problems: vec![problem("b1", "no answer".to_owned())],
            problem_count: 9,
            healthy_count: 3,
        };
        assert_eq!(v1::Health::from(&Health::from(wire.clone())), wire);
        assert_eq!(Health::from(v1::Health::default()), Health::default());
    }

    #[test]
    fn no_agent_fills_others_memory() {
        let long = || "ü".repeat(TEXT);
        let mut problems: Vec<_> = (0..1000).map(|n| problem(&format!("n{n}"), long())).collect();
        problems[0].node = "no name!".to_owned();
        let wire = v1::Health { reason: long(), message: long(), problems, problem_count: 1000, healthy_count: 0 };
        let health = Health::from(wire);
        assert_eq!((health.peers.len(), health.problem_count), (PROBLEMS - 1, 1000));
        let texts = health.peers.iter().flat_map(|peer| [peer.message.as_str(), peer.reason.as_str()]);
        let own = health.problem.as_ref().expect("one");
        assert!(texts.chain([own.reason.as_str(), own.message.as_str()]).all(|text| text.len() <= TEXT));
    }
}
