//! Membership that follows the Node objects of Kubernetes.
//!
//! Owns what is asked about Nodes and its way through registry and store to the answer. Must never talk to an API server: it is
//! told what was seen there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use tokio::sync::{broadcast, watch};
use weft_core::types::{NodeName, PerFamily, PodCidr};

use super::{
    Cluster, Command, Refusal, Reply,
    actor::{Actor, Batch},
    registry::Outcome,
};

/// Writes of one batch, about: everybody else waits for so long.
const WRITES: usize = 256;

/// A Node object, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeSeen {
    pub(crate) name: NodeName,
    pub(crate) uid: String,
    /// When it was created, Unix time in seconds.
    pub(crate) created_unix: u64,
    /// What its spec says; none where it says nothing yet.
    pub(crate) pod_cidrs: PerFamily<Option<PodCidr>>,
    /// The pod CIDRs were written by this controller or one before it.
    pub(crate) cidrs_are_ours: bool,
    /// Its addresses, as its kubelet reports them.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// All Nodes there are, in one complete view.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllNodes {
    /// Those that could be read.
    pub(crate) seen: Vec<NodeSeen>,
    /// Those that exist and cannot be read: they are not taken in, but they have not departed either.
    pub(crate) unreadable: BTreeSet<NodeName>,
}

/// A Node that is a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// What it has.
    pub(crate) pod_cidrs: PerFamily<Option<PodCidr>>,
    /// The pod CIDRs are ours to write into the Node object, where it has none.
    pub(crate) is_ours_to_write: bool,
}

/// A Node and whether it was taken in.
pub(crate) type Answered = (NodeName, Result<Admitted, Refusal>);

/// What is asked about Nodes.
pub(super) enum NodeCommand {
    Admit(Box<NodeSeen>, Reply<Admitted>),
    Depart(NodeName, Reply<()>),
    Sync(AllNodes, Reply<Vec<Answered>>),
    Identify(NodeName, Option<String>, Reply<u64>),
    Known(Reply<BTreeMap<NodeName, Option<String>>>),
}

impl Cluster {
    /// Takes a Node in, or notes what changed of it. A refusal leaves what the node had before as it is.
    pub(crate) async fn admit(&self, seen: NodeSeen) -> Result<Admitted, Refusal> {
        self.ask(|reply| Command::Node(NodeCommand::Admit(Box::new(seen), reply))).await
    }

    /// Ends the membership of a Node that is gone.
    pub(crate) async fn depart(&self, name: NodeName) -> Result<(), Refusal> {
        self.ask(|reply| Command::Node(NodeCommand::Depart(name, reply))).await
    }

    /// Ends the membership of whatever is not among all these Nodes, and takes them in; answers for each that it has taken
    /// in or refused, which are all unless there is too much to write at once: the rest is to be admitted afterwards, those
    /// with pod CIDRs first. Decides who gives pod CIDRs, where the configuration leaves it open.
    pub(crate) async fn sync_nodes(&self, nodes: AllNodes) -> Result<Vec<Answered>, Refusal> {
        self.ask(|reply| Command::Node(NodeCommand::Sync(nodes, reply))).await
    }

    /// The life that a Node is in, whose UID a token names.
    pub(crate) async fn identify(&self, node: NodeName, uid: Option<String>) -> Result<u64, Refusal> {
        self.ask(|reply| Command::Node(NodeCommand::Identify(node, uid, reply))).await
    }

    /// The names that something is stored for which ends with their Node, and the UIDs of those that are members.
    pub(crate) async fn known_nodes(&self) -> Result<BTreeMap<NodeName, Option<String>>, Refusal> {
        self.ask(|reply| Command::Node(NodeCommand::Known(reply))).await
    }

    /// Follows what agents said of their nodes and was refused.
    pub(crate) fn complaints(&self) -> broadcast::Receiver<(NodeName, Refusal)> {
        self.complaints.subscribe()
    }

    /// Rises whenever pod CIDRs became free, or everything was read again.
    pub(crate) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.clone()
    }
}

impl Actor {
    pub(super) fn node_command(&mut self, command: NodeCommand, batch: &mut Batch) {
        match command {
            NodeCommand::Admit(seen, reply) => {
                self.note_evidence(std::slice::from_ref(&seen));
                let answer = self.admit_node(&seen, batch);
                batch.then(move |_, stored| drop(reply.send(stored.and(answer))));
            }
            NodeCommand::Depart(name, reply) => {
                self.depart_node(&name, batch);
                self.decide_allocator();
                batch.then(move |_, stored| drop(reply.send(stored)));
            }
            NodeCommand::Sync(nodes, reply) => {
                let answers = self.sync_nodes(nodes, batch);
                batch.then(move |_, stored| drop(reply.send(stored.map(|()| answers))));
            }
            NodeCommand::Identify(node, uid, reply) => drop(reply.send(self.registry.identify(&node, uid.as_deref()))),
            NodeCommand::Known(reply) => {
                let uid = |name: &NodeName| self.registry.nodes().get(name).and_then(|record| record.node_uid.clone());
                let known = self.registry.known().map(|name| (name.clone(), uid(name)));
                let _gone = reply.send(Ok(known.collect()));
            }
        }
    }

    fn sync_nodes(&mut self, nodes: AllNodes, batch: &mut Batch) -> Vec<Answered> {
        let AllNodes { mut seen, unreadable } = nodes;
        self.note_evidence(&seen);
        // First those that are gone and the lives that ended, whose pod CIDRs others may have by now.
        let present: BTreeSet<&NodeName> = seen.iter().map(|seen| &seen.name).chain(&unreadable).collect();
        let gone: Vec<NodeName> = self.registry.known().filter(|name| !present.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.depart_node(name, batch));
        // What is gone proves nothing any more.
        self.decide_allocator();
        let replaced: Vec<NodeName> =
            seen.iter().filter(|seen| self.registry.is_another_life(seen)).map(|seen| seen.name.clone()).collect();
        replaced.iter().for_each(|name| self.depart_node(name, batch));
        // What is given comes before what is to be found, which must not take it.
        seen.sort_by(|a, b| (a.pod_cidrs.is_empty(), &a.name).cmp(&(b.pod_cidrs.is_empty(), &b.name)));
        let mut answers = Vec::with_capacity(seen.len());
        for seen in &seen {
            if batch.writes.len() > WRITES {
                break;
            }
            answers.push((seen.name.clone(), self.admit_node(seen, batch)));
        }
        answers
    }

    fn admit_node(&mut self, seen: &NodeSeen, batch: &mut Batch) -> Result<Admitted, Refusal> {
        let node = seen.name.clone();
        if self.cleaning.is_some() {
            return Err(Refusal::CleaningUp { node });
        }
        let Outcome { changed, left, answer, begun } = self.registry.admit(seen, self.clock.unix());
        let is_change = !changed.writes.is_empty();
        if let Some(refusal) = self.registry.strayed(&node) {
            self.complain(&node, &refusal);
        }
        batch.add(changed);
        if !left.is_empty() {
            batch.departed.push((node.clone(), left));
        }
        self.peers.touch();
        if let Err(refusal) = &answer {
            self.metrics.admission(refusal.label());
            tracing::debug!(%node, "not taken in as it is: {refusal}");
        }
        if is_change {
            let admitted = answer.as_ref().ok().copied();
            batch.then(move |actor, stored| {
                let Ok(()) = stored else { return };
                actor.peers.touch();
                if let Some(admitted) = admitted {
                    actor.metrics.admission("ok");
                    let cidrs: Vec<String> = admitted.pod_cidrs.iter().map(ToString::to_string).collect();
                    tracing::info!(%node, ?cidrs, "taken in");
                }
                if let Some(incarnation) = begun {
                    actor.end_earlier_life(&node, incarnation);
                }
            });
        }
        answer
    }

    fn depart_node(&mut self, name: &NodeName, batch: &mut Batch) {
        let (changed, left) = self.registry.depart(name);
        if changed.writes.is_empty() {
            return;
        }
        batch.add(changed);
        batch.departed.push((name.clone(), left));
        let node = name.clone();
        batch.then(move |actor, stored| {
            if stored.is_ok() && !actor.registry.nodes().contains_key(&node) {
                tracing::info!(%node, "departed");
                actor.sessions.close(&node, || Refusal::NodeUnseen { node: node.clone() });
                actor.peers.touch();
            }
        });
    }

    /// Has the peer list and whoever listens tell of a refusal that a hand must mend.
    pub(super) fn complain(&mut self, node: &NodeName, refusal: &Refusal) {
        if refusal.is_about_addresses() {
            self.peers.refuse(node, refusal);
            let _nobody_listens = self.complaints.send((node.clone(), refusal.clone()));
        }
    }

    fn note_evidence(&mut self, seen: &[NodeSeen]) {
        let is_news = self.registry.note_nodes(seen);
        self.wake_the_waiting(is_news);
    }

    fn decide_allocator(&mut self) {
        let is_news = self.registry.decide_allocator();
        self.wake_the_waiting(is_news);
    }

    /// Who waits for a pod CIDR may have it now.
    fn wake_the_waiting(&self, is_news: bool) {
        if is_news {
            self.quarantine.tell_freed();
        }
    }
}

#[cfg(test)]
mod tests;
