//! A node's standing as the status of its Vtep.
//!
//! Owns the words and the conditions, and what is kept of the status before: times, where nothing changed, and what the
//! kernel last held. Must never judge how a node stands: the cluster has.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use weft_api::{ConditionType, FamilyReach, PeerReport, RevisionStatus, VtepState, VtepStatus};
use weft_core::{
    standing::{Health, Reason, State},
    types::{Family, UnixMs},
};

use crate::cluster::{NodeStanding, Probed};

/// Peers with problems that a status names.
const NAMED: usize = 3;

/// How much a status differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// In figures and wording.
    Detail,
    /// In what people and programs wait for.
    State,
}

/// The status of a node that stands like this, where `before` is the present one and `generation` that of the spec.
/// While a term is `young`, nobody has said anything of a node's probes yet: what was known still counts.
pub(super) fn status(
    standing: &NodeStanding,
    before: Option<&VtepStatus>,
    generation: Option<i64>,
    young: bool,
    now: Timestamp,
) -> VtepStatus {
    let state = state(standing.state);
    let reason = standing.reason.as_ref().map(ToString::to_string).unwrap_or_default();
    let same = before.filter(|before| before.state == state && before.reason == reason);
    let since = same.and_then(|before| before.since.clone()).or_else(|| standing.since.and_then(time));
    let applied = standing.applied.map(|(revision, at)| RevisionStatus {
        epoch: revision.epoch,
        sequence: revision.sequence,
        since: time(at),
    });
    // Without a stream its kernel still holds what it held.
    let applied = applied.or_else(|| before.and_then(|before| before.applied.clone()));
    let mut drafts = conditions(standing);
    if young && standing.probed == Probed::Unknown {
        drafts[REACHABLE].keep(before);
    }
    let reach: Vec<FamilyReach> = standing.paths.iter().map(reach).collect();
    VtepStatus {
        state,
        reason,
        message: standing.message.clone(),
        since,
        pod_cidrs: joined(standing.pod_cidrs.iter()),
        underlay: joined(standing.underlay.iter()),
        paths: paths_text(&reach),
        reach,
        applied_revision: applied.as_ref().map(|at| format!("{}.{}", at.epoch, at.sequence)).unwrap_or_default(),
        applied,
        revision_lag: if standing.is_connected { standing.lag } else { 0 },
        peers: standing.health.as_ref().map(peers),
        conditions: drafts.into_iter().map(|draft| draft.finish(before, generation, now)).collect(),
    }
}

/// The status of a node that is gone while its peers still let go of it.
pub(super) fn departed(before: &VtepStatus, generation: Option<i64>, now: Timestamp) -> VtepStatus {
    if before.state == VtepState::Departed {
        return before.clone();
    }
    let message = "its Node object is gone: its pod CIDRs are free once every connected agent has let go of them";
    let draft = Draft::no(ConditionType::Ready, Reason::NodeDeleted.as_str(), message);
    VtepStatus {
        state: VtepState::Departed,
        reason: Reason::NodeDeleted.to_string(),
        message: message.to_owned(),
        since: Some(Time(now)),
        reach: Vec::new(),
        paths: String::new(),
        peers: None,
        conditions: vec![draft.finish(Some(before), generation, now)],
        ..before.clone()
    }
}

/// Whether and how much two statuses differ.
pub(super) fn change(before: Option<&VtepStatus>, after: &VtepStatus) -> Option<Change> {
    let Some(before) = before else { return Some(Change::State) };
    if before == after {
        return None;
    }
    fn conditions(status: &VtepStatus) -> Vec<(&str, &str, &str)> {
        let words = |condition| {
            let Condition { type_, status, reason, .. }: &Condition = condition;
            (type_.as_str(), status.as_str(), reason.as_str())
        };
        status.conditions.iter().map(words).collect()
    }
    let is_same = before.state == after.state
        && before.reason == after.reason
        && before.pod_cidrs == after.pod_cidrs
        && before.underlay == after.underlay
        && conditions(before) == conditions(after);
    Some(if is_same { Change::Detail } else { Change::State })
}

const fn state(state: State) -> VtepState {
    match state {
        State::Ready => VtepState::Ready,
        State::Pending => VtepState::Pending,
        State::Disconnected => VtepState::Disconnected,
        State::Degraded => VtepState::Degraded,
        State::Unreachable => VtepState::Unreachable,
    }
}

/// To the second, as Kubernetes has its times: otherwise what comes back from the API differs from what was meant.
fn time(moment: UnixMs) -> Option<Time> {
    Timestamp::from_second(moment.seconds()).ok().filter(|_| moment.0 > 0).map(Time)
}

fn joined<T: ToString>(all: impl Iterator<Item = T>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(",")
}

fn reach((family, reach): &(Family, crate::cluster::Reach)) -> FamilyReach {
    let family = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    FamilyReach { family: family.to_owned(), direct: reach.direct, vxlan: reach.tunnel, unreached: reach.unreached }
}

/// One text for all families where they agree.
fn paths_text(reach: &[FamilyReach]) -> String {
    let one = |reach: &FamilyReach| {
        let counts = [(reach.direct, "direct"), (reach.vxlan, "vxlan"), (reach.unreached, "unreached")];
        let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        counts.collect::<Vec<_>>().join(", ")
    };
    let texts: Vec<(&str, String)> = reach.iter().map(|reach| (reach.family.as_str(), one(reach))).collect();
    match texts.as_slice() {
        [(_, first), rest @ ..] if rest.iter().all(|(_, text)| text == first) => first.clone(),
        texts => texts.iter().map(|(family, text)| format!("{family}: {text}")).collect::<Vec<_>>().join("; "),
    }
}

fn peers(health: &Health) -> PeerReport {
    let first = health.peers.iter().take(NAMED);
    let first = first.map(|problem| format!("{}: {}: {}", problem.node, problem.reason, problem.message));
    PeerReport { healthy: health.healthy_count, problems: health.problem_count, first: first.collect() }
}

/// A condition without its times.
struct Draft {
    kind: ConditionType,
    status: &'static str,
    reason: String,
    message: String,
}

impl Draft {
    fn new(kind: ConditionType, status: &'static str, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, status, reason: reason.to_owned(), message: message.into() }
    }

    fn yes(kind: ConditionType, reason: &str) -> Self {
        Self::new(kind, "True", reason, "")
    }

    fn no(kind: ConditionType, reason: &str, message: impl Into<String>) -> Self {
        Self::new(kind, "False", reason, message)
    }

    /// Says what it said before.
    fn keep(&mut self, before: Option<&VtepStatus>) {
        let mut before = before.into_iter().flat_map(|before| &before.conditions);
        let Some(old) = before.find(|old| old.type_ == self.kind.as_str()) else { return };
        self.status = match old.status.as_str() {
            "True" => "True",
            "False" => "False",
            _ => return,
        };
        (self.reason, self.message) = (old.reason.clone(), old.message.clone());
    }

    fn finish(self, before: Option<&VtepStatus>, observed_generation: Option<i64>, now: Timestamp) -> Condition {
        let before = before.into_iter().flat_map(|before| &before.conditions);
        let same = before.clone().find(|old| old.type_ == self.kind.as_str() && old.status == self.status);
        let last_transition_time = same.map_or(Time(now), |old| old.last_transition_time.clone());
        Condition {
            type_: self.kind.as_str().to_owned(),
            status: self.status.to_owned(),
            reason: self.reason,
            message: self.message,
            observed_generation,
            last_transition_time,
        }
    }
}

/// Where it stands among the conditions.
const REACHABLE: usize = 3;

fn conditions(standing: &NodeStanding) -> [Draft; 5] {
    use ConditionType::{Allocated, Connected, Programmed, Reachable, Ready};

    let reason = standing.reason.as_ref().map_or("Unknown", Reason::as_str);
    let ready = match standing.state {
        State::Ready => Draft::yes(Ready, "PeerReady"),
        _ => Draft::no(Ready, reason, &standing.message),
    };
    let connected = match (standing.is_connected, standing.has_reported) {
        (true, _) => Draft::yes(Connected, "StreamOpen"),
        (false, true) => {
            Draft::no(Connected, Reason::AgentDisconnected.as_str(), "its agent has no stream to the controller")
        }
        (false, false) => {
            Draft::no(Connected, Reason::NeverConnected.as_str(), "its agent never opened a stream: is it running?")
        }
    };
    let programmed = match &standing.health {
        _ if standing.is_programmed() => Draft::yes(Programmed, "ReadBack"),
        Some(Health { problem: Some(problem), .. }) => Draft::no(Programmed, problem.reason.as_str(), &problem.message),
        Some(_) => Draft::no(
            Programmed,
            Reason::NotAcknowledged.as_str(),
            "its agent has not confirmed its kernel's state yet",
        ),
        None if standing.has_reported => Draft::new(
            Programmed,
            "Unknown",
            Reason::AgentDisconnected.as_str(),
            "nobody can read its kernel without its agent",
        ),
        None => Draft::no(Programmed, Reason::NeverConnected.as_str(), "nothing is programmed without its agent"),
    };
    let reachable = match &standing.probed {
        Probed::Answers => Draft::yes(Reachable, "ProbesAnswered"),
        Probed::Lost(message) => Draft::no(Reachable, Reason::ProbeLost.as_str(), message),
        Probed::Unknown => Draft::new(Reachable, "Unknown", "NoProbes", "no other node has probed it"),
    };
    let allocated = if let Some(problem) = &standing.problem {
        Draft::no(Allocated, problem.reason(), problem.to_string())
    } else if standing.pod_cidrs.is_empty() {
        Draft::no(Allocated, "NoPodCIDR", "it has no pod CIDR: see the events of its Node")
    } else {
        Draft::yes(Allocated, "PodCIDRsAllocated")
    };
    [ready, connected, programmed, reachable, allocated]
}

#[cfg(test)]
mod tests;
