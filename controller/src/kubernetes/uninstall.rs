//! Weft leaves the cluster, in order: first every node, then the objects that tell of them.
//!
//! Owns the leader's part. Asked for by an annotation of the cluster's ConfigMap, it has every agent clean up, tells in the
//! same object how far that is, and once every node is clean removes the Nodes' condition, the Vteps and the claims. Must
//! never remove an object before the nodes are clean: they are what a cleaned-up node would be programmed from again.

mod hook;
mod objects;

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Node},
    serde_json::{self, json},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, reflector::Store, watcher::watch_object},
};
use tokio::time::{MissedTickBehavior, interval};
use weft_api::{Uninstall, UninstallState, Waiting, names};

pub use hook::{UninstallOptions, uninstall};

use super::Leader;
use crate::cluster::{CleanUpStanding, Cluster, Refusal};

/// How often progress is looked at and told.
const TELL: Duration = Duration::from_secs(1);

/// True where the uninstallation is asked for. A leader has to know before it serves: an agent that was cleaned must not
/// be told of a member.
pub(super) async fn is_requested(client: &Client, namespace: &str) -> kube::Result<bool> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    Ok(maps.get_opt(names::CLUSTER).await?.is_some_and(|map| asks(&map)))
}

/// Follows the annotation until the cluster stops. An error ends the term: the next one reads anew what there is.
pub(super) async fn run(context: Leader) -> anyhow::Result<()> {
    let Leader { client, namespace, cluster, nodes, .. } = context;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    let mut events = std::pin::pin!(watch_object(maps.clone(), names::CLUSTER).default_backoff());
    let mut work = Work { client, cluster, nodes, maps, phase: Phase::Idle, told: None };
    let mut tick = interval(TELL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_requested = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(Some(map))) => is_requested = asks(&map),
                // Without the object there is nobody to tell; whoever removed it did not ask for more.
                Some(Ok(None)) => {}
                Some(Err(error)) => tracing::warn!("ConfigMap {} cannot be watched: {error}", names::CLUSTER),
                None => anyhow::bail!("the watch of ConfigMap {} has ended", names::CLUSTER),
            },
            _ = tick.tick(), if work.phase == Phase::Cleaning => {}
        }
        match work.step(is_requested).await {
            Ok(()) => {}
            Err(Over::Stopping) => return Ok(()),
            Err(Over::Anew) => anyhow::bail!(
                "the uninstallation was called off after Weft's objects were removed: beginning anew with what is there"
            ),
        }
    }
}

fn asks(map: &ConfigMap) -> bool {
    map.annotations().get(names::UNINSTALL_ANNOTATION).is_some_and(|value| value == names::UNINSTALL_REQUESTED)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Agents are told.
    Cleaning,
    /// Nothing is left.
    Done,
}

/// Why there is no next step.
enum Over {
    /// The cluster has stopped.
    Stopping,
    /// The term's state is of no use any more.
    Anew,
}

impl From<Refusal> for Over {
    fn from(_: Refusal) -> Self {
        Self::Stopping
    }
}

struct Work {
    client: Client,
    cluster: Cluster,
    nodes: Store<Node>,
    maps: Api<ConfigMap>,
    phase: Phase,
    /// What the object says, as far as we know.
    told: Option<Uninstall>,
}

impl Work {
    async fn step(&mut self, is_requested: bool) -> Result<(), Over> {
        match (self.phase, is_requested) {
            (Phase::Idle, false) | (Phase::Done, true) => Ok(()),
            (Phase::Idle, true) => {
                self.cluster.order_clean_up(true).await?;
                self.phase = Phase::Cleaning;
                self.follow().await
            }
            (Phase::Cleaning, true) => self.follow().await,
            (Phase::Cleaning, false) => {
                self.cluster.order_clean_up(false).await?;
                self.phase = Phase::Idle;
                self.tell(None).await;
                Ok(())
            }
            (Phase::Done, false) => {
                self.tell(None).await;
                Err(Over::Anew)
            }
        }
    }

    /// Looks how far the nodes are, removes what is the cluster's once they are done, and tells.
    async fn follow(&mut self) -> Result<(), Over> {
        let standing = self.cluster.clean_up_standing().await?;
        let mut now = progress(&standing);
        if now.waiting.is_empty() {
            now.waiting = objects::remove_all(&self.client, &self.nodes).await;
        }
        if now.waiting.is_empty() {
            now.state = UninstallState::Done;
        }
        let is_done = now.state == UninstallState::Done;
        // Done only once it is told: otherwise it is tried again.
        if self.tell(Some(now)).await && is_done {
            tracing::warn!(nodes = standing.cleaned.len(), "nothing of Weft is left in the cluster");
            self.phase = Phase::Done;
        }
        Ok(())
    }

    /// Writes how it stands, or nothing; false where that failed.
    async fn tell(&mut self, now: Option<Uninstall>) -> bool {
        if now.is_some() && self.told == now {
            return true;
        }
        let text = now.as_ref().map(|now| serde_json::to_string(now).expect("plain data"));
        let patch = Patch::Merge(json!({ "data": { names::UNINSTALL: text } }));
        match self.maps.patch(names::CLUSTER, &PatchParams::default(), &patch).await {
            Ok(_) => {
                self.told = now;
                true
            }
            Err(error) => {
                tracing::warn!("ConfigMap {} cannot be written: {error}; trying again", names::CLUSTER);
                false
            }
        }
    }
}

fn progress(standing: &CleanUpStanding) -> Uninstall {
    let waiting =
        |(node, why): &(weft_core::types::NodeName, String)| Waiting { node: node.to_string(), why: why.clone() };
    Uninstall {
        state: UninstallState::Running,
        cleaned: standing.cleaned.iter().map(ToString::to_string).collect(),
        waiting: standing.waiting.iter().map(waiting).collect(),
    }
}

#[cfg(test)]
mod tests;
