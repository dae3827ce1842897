//! Looking at all Nodes.
//!
//! Owns what was seen of each last, and what waits: for the API server, for a pod CIDR to become free, for another
//! allocator. Must never be in a hurry: whatever was missed is found with the next look.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::bail;
use futures::{StreamExt as _, future::join_all, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Resource as _, runtime::reflector::ObjectRef};
use tokio::time::Instant;
use weft_core::types::{Family, NodeName};

use super::{
    super::{Leader, store::patiently},
    AGAIN,
    handled::Handled,
    seen::{has_agent, name, seen},
    write,
};
use crate::cluster::{Admitted, AllNodes, NodeSeen, Refusal};

/// Requests under way at a time.
const PARALLEL: usize = 16;
/// Nodes that are taken in together: one batch of writes, after which it is others' turn.
const AT_ONCE: usize = 100;
/// The looks of one term.
pub(super) struct Look {
    leader: Leader,
    api: Api<Node>,
    first_family: Family,
    handled: BTreeMap<NodeName, Handled>,
    /// What the store knew at the first look.
    known: BTreeSet<NodeName>,
}

impl Look {
    pub(super) fn new(leader: Leader) -> Self {
        let api = Api::all(leader.client.clone());
        Self { leader, api, first_family: Family::V4, handled: BTreeMap::new(), known: BTreeSet::new() }
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
        let known = self.leader.cluster.known_nodes().await?;
        self.known = known.keys().cloned().collect();
        let mut nodes = self.current();
        // Their membership ends, or another one begins, on the API server's own word only.
        let is_doubtful = |name: &NodeName, uid: &Option<String>| {
            let shown = nodes.get(name).map(|node| node.metadata.uid.clone());
            shown.is_none_or(|shown| uid.is_some() && shown != *uid)
        };
        let doubtful: Vec<NodeName> =
            known.iter().filter(|(name, uid)| is_doubtful(name, uid)).map(|(name, _)| name.clone()).collect();
        self.ask_again(&mut nodes, doubtful).await?;
        let mut all = AllNodes::default();
        for (name, node) in &nodes {
            match seen(node) {
                Ok(seen) => all.seen.push(seen),
                Err(refusal) => {
                    all.unreadable.insert(name.clone());
                    self.settle(node, Err(refusal));
                }
            }
        }
        tracing::info!(nodes = nodes.len(), "every Node is looked at");
        match self.leader.cluster.sync_nodes(all).await {
            Ok(answers) => {
                let answers =
                    answers.into_iter().filter_map(|(name, answer)| Some((nodes.get(&name)?.clone(), answer)));
                self.settle_all(answers.collect()).await;
                // The rest, where there was too much to write at once.
                self.again().await
            }
            Err(Refusal::CleaningUp { .. }) => Ok(()),
            Err(refusal) => bail!(refusal),
        }
    }

    /// A look at what changed, what is gone, and what is due.
    pub(super) async fn again(&mut self) -> anyhow::Result<()> {
        let mut nodes = self.current();
        // A watch that lags may show the Node that was there before the one that is known.
        let is_another =
            |name: &NodeName, node: &Arc<Node>| self.handled.get(name).is_some_and(|it| it.uid != node.metadata.uid);
        let others: Vec<NodeName> =
            nodes.iter().filter(|(name, node)| is_another(name, node)).map(|(name, _)| name.clone()).collect();
        self.ask_again(&mut nodes, others).await?;
        let gone: Vec<NodeName> = self.handled.keys().filter(|name| !nodes.contains_key(*name)).cloned().collect();
        let leader = &self.leader;
        // Where there is one after all, the watch will show it.
        let departs = self.ask_all(gone).await?.into_iter().filter(|(_, found)| found.is_none());
        let depart = |name: NodeName| async move { (leader.cluster.depart(name.clone()).await, name) };
        for (departed, name) in join_all(departs.map(|(name, _)| depart(name))).await {
            match departed {
                Ok(()) => {
                    self.handled.remove(&name);
                    self.known.remove(&name);
                }
                Err(refusal) => tracing::warn!(node = %name, "it is gone, and still a member: {refusal}"),
            }
        }
        let now = Instant::now();
        let is_due = |name: &NodeName, node: &Arc<Node>| match self.handled.get(name) {
            None => true,
            Some(handled) => handled.is_due(node, now),
        };
        let mut due: Vec<Arc<Node>> =
            nodes.iter().filter(|(name, node)| is_due(name, node)).map(|(_, node)| node.clone()).collect();
        // What is given comes before what is to be found, which must not take it.
        due.sort_by_key(|node| node.spec.as_ref().is_none_or(|spec| spec.pod_cidr.is_none()));
        for some in due.chunks(AT_ONCE) {
            let leader = &self.leader;
            let admit = |node: Arc<Node>| async move {
                let answer = match seen(&node) {
                    Ok(seen) => leader.cluster.admit(seen).await,
                    Err(refusal) => Err(refusal),
                };
                (node, answer)
            };
            let answers = join_all(some.iter().cloned().map(admit)).await;
            self.settle_all(answers).await;
        }
        Ok(())
    }

    /// The Nodes that an agent runs on. One that was taken in stays until it is deleted, whatever its labels become: its pods
    /// are there.
    fn current(&self) -> BTreeMap<NodeName, Arc<Node>> {
        let nodes = self.leader.watched.store.state();
        let named = nodes.into_iter().filter_map(|node| Some((name(&node)?, node)));
        named.filter(|(name, node)| self.is_taken_in(name) || has_agent(&self.leader.agent_nodes, node)).collect()
    }

    fn is_taken_in(&self, name: &NodeName) -> bool {
        self.known.contains(name) || self.handled.contains_key(name)
    }

    /// Puts in place of what the watch shows what the API server itself says.
    async fn ask_again(&self, nodes: &mut BTreeMap<NodeName, Arc<Node>>, names: Vec<NodeName>) -> anyhow::Result<()> {
        for (name, found) in self.ask_all(names).await? {
            match found {
                Some(node) => drop(nodes.insert(name, Arc::new(node))),
                None => drop(nodes.remove(&name)),
            }
        }
        Ok(())
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
            self.settle(&node, answer);
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
            Err(error) => {
                let why = super::super::chain(&error);
                Err(Refusal::Store(format!("pod CIDRs could not be written into Node {name}: {why}")))
            }
        }
    }

    /// Remembers what was done about a Node, and tells what was not.
    fn settle(&mut self, node: &Node, answer: Result<Admitted, Refusal>) {
        let Some(name) = name(node) else { return };
        let (refusal, before) = (answer.err(), self.handled.remove(&name));
        let (handled, is_told) = Handled::after(node, refusal.as_ref(), before.as_ref(), Instant::now());
        self.handled.insert(name.clone(), handled);
        let Some(refusal) = refusal else { return };
        if is_told {
            self.leader.events.warn(&node.object_ref(&()), refusal.reason(), &refusal.to_string());
        }
        if is_told || matches!(refusal, Refusal::Store(_)) {
            tracing::warn!(node = %name, "{refusal}");
        }
    }
}
