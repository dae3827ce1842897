//! Looking at all Nodes.
//!
//! Owns what was seen of each last, and what waits: for the API server, for a pod CIDR to become free, for another
//! allocator. Must never be in a hurry: whatever was missed is found with the next look.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::bail;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Resource as _, runtime::reflector::ObjectRef};
use tokio::time::Instant;
use weft_core::types::{Family, NodeName};

use super::{
    super::{Leader, store::patiently},
    AGAIN,
    seen::{name, seen},
    write,
};
use crate::cluster::{Admitted, AllNodes, NodeSeen, Refusal};

/// Requests under way at a time.
const PARALLEL: usize = 16;
/// After something that passes by itself.
const SOON: Duration = Duration::from_secs(1);
/// Another allocator may take that long before anybody is told.
const ALLOCATOR_TIME: Duration = Duration::from_secs(30);

/// What was done about a Node.
#[derive(Debug)]
struct Handled {
    version: Option<String>,
    /// When to look again though nothing changed.
    due: Option<Instant>,
    /// Since when it waits for another allocator.
    awaited: Option<Instant>,
    /// How often the API server or the store failed over it.
    failures: u32,
}

/// The looks of one term.
pub(super) struct Look {
    leader: Leader,
    api: Api<Node>,
    first_family: Family,
    handled: BTreeMap<NodeName, Handled>,
}

impl Look {
    pub(super) fn new(leader: Leader) -> Self {
        let api = Api::all(leader.client.clone());
        Self { leader, api, first_family: Family::V4, handled: BTreeMap::new() }
    }

    /// When something is to be tried again.
    pub(super) fn due(&self) -> Instant {
        let first = self.handled.values().filter_map(|handled| handled.due).min();
        first.unwrap_or_else(|| Instant::now() + AGAIN)
    }

    /// What waits may have been waiting for this; and after the store was read again, a Node may not be in any more.
    pub(super) async fn try_waiting_again(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.handled.values_mut().filter(|handled| handled.due.is_some()).for_each(|handled| handled.due = Some(now));
        let known = self.leader.cluster.known_nodes().await?;
        let lost = self.handled.iter_mut().filter(|(name, _)| !known.contains_key(*name));
        lost.for_each(|(_, handled)| handled.due = Some(now));
        Ok(())
    }

    /// Tells of what an agent said of its node and was refused.
    pub(super) fn complain(&self, name: &NodeName, refusal: &Refusal) {
        if let Some(node) = self.leader.nodes.get(&ObjectRef::new(name.as_str())) {
            self.leader.events.warn(&node.object_ref(&()), refusal.reason(), &refusal.to_string());
        }
    }

    /// The first look: at everything, and at what the store knows and the watch does not show.
    pub(super) async fn first(&mut self) -> anyhow::Result<()> {
        self.first_family = match self.leader.cluster.status().await {
            Ok(status) => status.pools.first().map_or(Family::V4, |usage| usage.pool.family()),
            Err(refusal) => bail!(refusal),
        };
        let mut nodes = self.current();
        let known = self.leader.cluster.known_nodes().await?;
        // Their membership ends, or another one begins, on the API server's own word only.
        let is_doubtful = |name: &NodeName, uid: &Option<String>| {
            let shown = nodes.get(name).map(|node| node.metadata.uid.clone());
            shown.is_none_or(|shown| uid.is_some() && shown != *uid)
        };
        let doubtful: Vec<NodeName> =
            known.iter().filter(|(name, uid)| is_doubtful(name, uid)).map(|(name, _)| name.clone()).collect();
        for (name, found) in self.ask_all(doubtful).await? {
            match found {
                Some(node) => drop(nodes.insert(name, Arc::new(node))),
                None => drop(nodes.remove(&name)),
            }
        }
        let mut all = AllNodes::default();
        for (name, node) in &nodes {
            match seen(node) {
                Ok(seen) => all.seen.push(seen),
                Err(refusal) => {
                    all.unreadable.insert(name.clone());
                    self.settle(node, Err(refusal)).await;
                }
            }
        }
        tracing::info!(nodes = nodes.len(), "every Node is looked at");
        match self.leader.cluster.sync_nodes(all).await {
            Ok(answers) => {
                let answers =
                    answers.into_iter().filter_map(|(name, answer)| Some((nodes.get(&name)?.clone(), answer)));
                self.settle_all(answers.collect()).await;
                Ok(())
            }
            Err(Refusal::CleaningUp { .. }) => Ok(()),
            Err(refusal) => bail!(refusal),
        }
    }

    /// A look at what changed, what is gone, and what is due.
    pub(super) async fn again(&mut self) -> anyhow::Result<()> {
        let nodes = self.current();
        let gone: Vec<NodeName> = self.handled.keys().filter(|name| !nodes.contains_key(*name)).cloned().collect();
        for (name, found) in self.ask_all(gone).await? {
            // Where there is one after all, the watch will show it.
            if found.is_none() && self.leader.cluster.depart(name.clone()).await.is_ok() {
                self.handled.remove(&name);
            }
        }
        let now = Instant::now();
        let is_due = |name: &NodeName, node: &Arc<Node>| match self.handled.get(name) {
            None => true,
            Some(handled) => {
                handled.version != node.metadata.resource_version || handled.due.is_some_and(|due| due <= now)
            }
        };
        let due: Vec<Arc<Node>> =
            nodes.iter().filter(|(name, node)| is_due(name, node)).map(|(_, node)| node.clone()).collect();
        let leader = &self.leader;
        let admit = |node: Arc<Node>| async move {
            let answer = match seen(&node) {
                Ok(seen) => leader.cluster.admit(seen).await,
                Err(refusal) => Err(refusal),
            };
            (node, answer)
        };
        // All are under way together, and so are one batch of writes.
        let answers = futures::future::join_all(due.into_iter().map(admit)).await;
        self.settle_all(answers).await;
        Ok(())
    }

    fn current(&self) -> BTreeMap<NodeName, Arc<Node>> {
        let nodes = self.leader.watched.store.state();
        nodes.into_iter().filter_map(|node| Some((name(&node)?, node))).collect()
    }

    /// Asks the API server itself about Nodes.
    async fn ask_all(&self, names: Vec<NodeName>) -> anyhow::Result<Vec<(NodeName, Option<Node>)>> {
        let ask = |name: NodeName| async {
            let found = patiently(|| self.api.get_opt(name.as_str())).await;
            (name, found)
        };
        let mut answers = stream::iter(names.into_iter().map(ask)).buffer_unordered(PARALLEL);
        let mut found = Vec::new();
        while let Some((name, answer)) = answers.next().await {
            match answer {
                Ok(node) => found.push((name, node)),
                Err(error) => bail!("cannot ask whether Node {name} is still there: {error}"),
            }
        }
        Ok(found)
    }

    async fn settle_all(&mut self, answers: Vec<(Arc<Node>, Result<Admitted, Refusal>)>) {
        let this = &*self;
        let written: Vec<_> = stream::iter(answers)
            .map(|(node, answer)| async move {
                let answer = this.write(&node, answer).await;
                (node, answer)
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        for (node, answer) in written {
            self.settle(&node, answer).await;
        }
    }

    /// Writes pod CIDRs into a Node that has none.
    async fn write(&self, node: &Node, answer: Result<Admitted, Refusal>) -> Result<Admitted, Refusal> {
        let admitted = answer?;
        if !admitted.is_ours_to_write || admitted.pod_cidrs.is_empty() {
            return Ok(admitted);
        }
        let Ok(NodeSeen { name, uid, .. }) = seen(node) else { return Ok(admitted) };
        let written = write::pod_cidrs(&self.api, name.as_str(), &uid, &admitted.pod_cidrs, self.first_family).await;
        self.leader.metrics.node_written(written.is_ok());
        match written {
            Ok(()) => {
                let cidrs = admitted.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                tracing::info!(node = %name, cidrs, "pod CIDRs written into the Node");
                self.leader.events.say(
                    &node.object_ref(&()),
                    "PodCIDRAllocated",
                    &format!("Weft gave this Node {cidrs}"),
                );
                Ok(admitted)
            }
            Err(error) => Err(Refusal::Store(format!("pod CIDRs could not be written into Node {name}: {error}"))),
        }
    }

    /// Remembers what was done about a Node, and tells what was not.
    async fn settle(&mut self, node: &Node, answer: Result<Admitted, Refusal>) {
        let Some(name) = name(node) else { return };
        let now = Instant::now();
        let before = self.handled.remove(&name);
        let mut handled =
            Handled { version: node.metadata.resource_version.clone(), due: None, awaited: None, failures: 0 };
        if let Err(refusal) = answer {
            let is_over = |since: Instant| now.duration_since(since) >= ALLOCATOR_TIME;
            handled.awaited = before.as_ref().and_then(|before| before.awaited);
            let is_told = match &refusal {
                Refusal::Store(_) | Refusal::Stopping => {
                    handled.failures = before.map_or(1, |before| before.failures + 1);
                    handled.due = Some(now + (SOON * 2_u32.pow(handled.failures.min(6) - 1)).min(AGAIN));
                    tracing::warn!(node = %name, "{refusal}");
                    false
                }
                Refusal::CleaningUp { .. } => {
                    handled.due = Some(now + AGAIN);
                    false
                }
                Refusal::CidrsAwaited { .. } => {
                    let since = *handled.awaited.get_or_insert(now);
                    handled.due = Some(now + AGAIN);
                    is_over(since)
                }
                _ => {
                    handled.due = Some(now + AGAIN);
                    true
                }
            };
            if is_told {
                tracing::warn!(node = %name, "{refusal}");
                self.leader.events.warn(&node.object_ref(&()), refusal.reason(), &refusal.to_string());
            }
        }
        self.handled.insert(name, handled);
    }
}
