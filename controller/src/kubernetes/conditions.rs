//! Whether pods can run on a node, as the scheduler sees it: the Node condition NetworkUnavailable.
//!
//! Owns that one condition of every Node, and the removal of all of ours. It says true from the node's beginning until its kernel was read back to hold
//! the membership for the first time, and false from then on: an agent that is away takes no pod's network with it. Must
//! never touch another condition, nor say true of a node that it has once called well.

pub(super) mod pools;

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{Node, NodeCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
    serde_json::{self, json},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::reflector::Store,
};
use tokio::time::{Instant, sleep, timeout};

use super::{Leader, nodes::has_agent};
use crate::{cluster::NodeStanding, config::AgentNodes};

/// Its type.
const TYPE: &str = "NetworkUnavailable";
/// Reason while a node's data plane was never complete.
const NOT_READY: &str = "WeftNotReady";
/// Reason once it was.
const READY: &str = "WeftReady";
/// Between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// Without news everything is compared again so often: somebody else may have written.
const AGAIN: Duration = Duration::from_secs(10);
/// The watch shows a write within that time; until then it is not repeated.
const ECHO: Duration = Duration::from_secs(10);
/// Requests under way at a time.
const PARALLEL: usize = 8;
/// Writes in one round.
const AT_ONCE: usize = 50;

/// Runs until the cluster stops.
pub(super) async fn run(context: Leader) -> anyhow::Result<()> {
    let mut version = context.cluster.peers_version();
    let mut writer = Writer::new(context.client, context.agent_nodes);
    loop {
        let Ok(standings) = context.cluster.standings().await else { return Ok(()) };
        if !context.cluster.is_cleaning_up() {
            writer.round(&context.nodes, &standings).await;
        }
        sleep(ROUND).await;
        if let Ok(Err(_gone)) = timeout(AGAIN, version.changed()).await {
            return Ok(());
        }
        version.mark_unchanged();
    }
}

/// Takes our conditions from every Node that has them, where nobody else has replaced them. Returns a sentence for each
/// that failed.
pub(super) async fn remove_all(client: &Client, nodes: &Store<Node>) -> Vec<String> {
    let api = Api::<Node>::all(client.clone());
    let mut removals = Vec::new();
    for node in nodes.state() {
        let network = is_ours(present(&node)).then_some(TYPE);
        let ours: Vec<&'static str> = network.into_iter().chain(pools::present(&node).map(|_| pools::TYPE)).collect();
        if !ours.is_empty() {
            removals.push(remove(api.clone(), node.name_any(), ours));
        }
    }
    futures::stream::iter(removals).buffer_unordered(PARALLEL).filter_map(|problem| async { problem }).collect().await
}

/// Takes conditions of these types from one Node.
async fn remove(api: Api<Node>, name: String, types: Vec<&'static str>) -> Option<String> {
    let deletions: Vec<_> = types.iter().map(|kind| json!({ "type": kind, "$patch": "delete" })).collect();
    let patch = Patch::Strategic(json!({ "status": { "conditions": deletions } }));
    match api.patch_status(&name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.code == 404 => None,
        Err(error) => Some(format!("conditions {} of Node {name} cannot be removed: {error}", types.join(" and "))),
        Ok(_) => None,
    }
}

/// What the condition should say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Unavailable,
    Available,
    /// Not ours to judge, as no agent runs there.
    Absent,
}

impl Wanted {
    fn patch(self) -> Patch<serde_json::Value> {
        let condition = match self {
            Self::Absent => json!({ "type": TYPE, "$patch": "delete" }),
            wanted => json!(condition(wanted)),
        };
        Patch::Strategic(json!({ "status": { "conditions": [condition] } }))
    }
}

/// Writes the condition.
struct Writer {
    api: Api<Node>,
    agents: AgentNodes,
    /// What was written lately, by UID: the watch may not show it yet.
    written: HashMap<String, (Wanted, Instant)>,
}

impl Writer {
    fn new(client: Client, agents: AgentNodes) -> Self {
        Self { api: Api::all(client), agents, written: HashMap::new() }
    }

    async fn round(&mut self, nodes: &Store<Node>, standings: &[NodeStanding]) {
        let now = Instant::now();
        self.written.retain(|_, (_, at)| now.duration_since(*at) < ECHO);
        let standings: HashMap<&str, &NodeStanding> =
            standings.iter().map(|standing| (standing.name.as_str(), standing)).collect();
        let mut due = Vec::new();
        for node in nodes.state() {
            let (name, uid) = (node.name_any(), node.uid().unwrap_or_default());
            let standing = standings.get(name.as_str()).copied();
            let wanted = match standing {
                None if !has_agent(&self.agents, &node) => is_ours(present(&node)).then_some(Wanted::Absent),
                _ => wanted(present(&node), standing),
            };
            let Some(wanted) = wanted.filter(|wanted| self.written.get(&uid).is_none_or(|(last, _)| last != wanted))
            else {
                continue;
            };
            due.push((name, uid, wanted));
        }
        // Nodes that become fit for pods first.
        due.sort_by_key(|(_, _, wanted)| *wanted != Wanted::Available);
        due.truncate(AT_ONCE);
        let api = &self.api;
        let write = |(name, uid, wanted): (String, String, Wanted)| async move {
            (api.patch_status(&name, &PatchParams::default(), &wanted.patch()).await, name, uid, wanted)
        };
        let written: Vec<_> =
            futures::stream::iter(due.into_iter().map(write)).buffer_unordered(PARALLEL).collect().await;
        for (outcome, name, uid, wanted) in written {
            match outcome {
                Ok(_) => {
                    tracing::info!(node = %name, unavailable = wanted == Wanted::Unavailable, "condition {TYPE} set");
                    self.written.insert(uid, (wanted, now));
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    let why = super::chain(&error);
                    tracing::warn!(node = %name, "condition {TYPE} cannot be written: {why}; trying again");
                }
            }
        }
    }
}

fn present(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == TYPE)
}

fn is_ours(condition: Option<&NodeCondition>) -> bool {
    condition
        .and_then(|condition| condition.reason.as_deref())
        .is_some_and(|reason| [NOT_READY, READY].contains(&reason))
}

/// What has to be written; none where the condition is right, or not known to be wrong.
fn wanted(present: Option<&NodeCondition>, standing: Option<&NodeStanding>) -> Option<Wanted> {
    let says = |status: &str, reason: &str| {
        present.is_some_and(|present| present.status == status && present.reason.as_deref() == Some(reason))
    };
    if standing.is_some_and(NodeStanding::is_programmed) {
        return (!says("False", READY)).then_some(Wanted::Available);
    }
    // Called well once it stays well; what another program said of its own network says nothing of ours.
    (!says("False", READY) && !says("True", NOT_READY)).then_some(Wanted::Unavailable)
}

/// To the second, as Kubernetes writes times.
fn now() -> Option<Time> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok()).map(Time)
}

fn condition(wanted: Wanted) -> NodeCondition {
    let (status, reason, message) = match wanted {
        Wanted::Unavailable | Wanted::Absent => {
            ("True", NOT_READY, "weft-agent has not programmed this node's network yet")
        }
        Wanted::Available => ("False", READY, "weft-agent has programmed this node's network and read it back"),
    };
    NodeCondition {
        type_: TYPE.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: now(),
        last_transition_time: now(),
    }
}

#[cfg(test)]
mod tests;
