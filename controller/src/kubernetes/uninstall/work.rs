//! What the leader does once a request is followed, step by step.
//!
//! Owns the phase, and what people are told of it. Must never decide whether a request counts.

use k8s_openapi::{
    api::core::v1::{ConfigMap, Node},
    serde_json::{self, json},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::reflector::Store,
};
use weft_api::{Uninstall, UninstallState, Waiting, names};

use super::{Leader, Verdict, objects, reference};
use crate::{
    cluster::{CleanUpStanding, Cluster, Refusal},
    kubernetes::events::Events,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kubernetes) enum Phase {
    Idle,
    /// Agents are told.
    Cleaning,
    /// Nothing is left.
    Done,
}

/// Why there is no next step.
pub(super) enum Over {
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

pub(super) struct Work {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) cluster: Cluster,
    pub(super) nodes: Store<Node>,
    pub(super) maps: Api<ConfigMap>,
    pub(super) events: Events,
    pub(super) phase: Phase,
    /// What the object says, as far as we know.
    pub(super) told: Option<Uninstall>,
}

impl Work {
    /// In another phase than idle the cluster was told so before it served.
    pub(super) fn new(context: Leader, maps: Api<ConfigMap>, phase: Phase) -> Self {
        let Leader { client, namespace, cluster, nodes, events, .. } = context;
        Self { client, namespace, cluster, nodes, maps, events, phase, told: None }
    }

    pub(super) async fn follow(&mut self, verdict: Verdict) -> Result<(), Over> {
        match (self.phase, verdict) {
            (Phase::Idle, Verdict::No) => {
                if self.told.is_some() {
                    // Of a request that is over, or of the leader before us.
                    self.tell(None).await;
                }
                Ok(())
            }
            (Phase::Idle, Verdict::Refused(why)) => {
                self.refuse(why).await;
                Ok(())
            }
            (Phase::Idle, Verdict::Yes) => {
                self.cluster.order_clean_up(true).await?;
                self.phase = Phase::Cleaning;
                self.clean().await
            }
            (Phase::Cleaning, Verdict::Yes) => self.clean().await,
            (Phase::Cleaning, Verdict::No | Verdict::Refused(_)) => {
                tracing::warn!("the uninstallation was called off: nodes that were clean are programmed again");
                self.cluster.order_clean_up(false).await?;
                self.phase = Phase::Idle;
                self.tell(None).await;
                Ok(())
            }
            (Phase::Done, Verdict::Yes) => {
                if self.told.is_none() {
                    // Asked for once more, by whoever wants to see it said.
                    self.clean().await?;
                }
                Ok(())
            }
            (Phase::Done, Verdict::No | Verdict::Refused(_)) => {
                self.tell(None).await;
                Err(Over::Anew)
            }
        }
    }

    async fn refuse(&mut self, why: String) {
        let refused = Uninstall { state: UninstallState::Refused, why, ..Uninstall::default() };
        if self.told.as_ref() != Some(&refused) {
            tracing::warn!("a request to uninstall Weft is {refused}");
            self.events.warn(&reference(&self.namespace), "UninstallRefused", &refused.to_string());
            self.tell(Some(refused)).await;
        }
    }

    /// Looks how far the nodes are, removes what is the cluster's once they are done, and tells.
    async fn clean(&mut self) -> Result<(), Over> {
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
        if self.tell(Some(now)).await && is_done && self.phase != Phase::Done {
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
        why: String::new(),
    }
}
