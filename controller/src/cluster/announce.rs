//! Persist, then announce.
//!
//! Owns the step from a confirmed batch to the streams, and the way back where a batch was not confirmed: everything is
//! read from the store again, since nobody knows which half happened. Must never announce first.

use std::collections::BTreeSet;

use weft_core::types::{NodeName, PodCidr};

use super::{
    Refusal,
    actor::{Actor, Batch},
    registry::Registry,
};
use crate::{
    fanout::Changes,
    store::{NodeRecord, StoreError, Stored, Write},
};

impl Actor {
    /// Writes a batch, then tells everybody. Fails only where the store cannot even be read after a failed write.
    pub(super) async fn finish(&mut self, batch: Batch) -> Result<(), StoreError> {
        let Batch { writes, touched, departed, done } = batch;
        let freed: Vec<PodCidr> = writes.iter().filter_map(Write::freed).collect();
        let began = self.clock.now();
        let outcome = if writes.is_empty() { Ok(()) } else { self.store.commit(writes).await };
        let answer = match outcome {
            Ok(()) => {
                self.quarantine.ended(&freed);
                self.announce(touched);
                for (name, cidrs) in departed {
                    // Not before the store knows of the end: without that the life goes on, and so do its streams.
                    self.registry.forget_proof(&name);
                    let revision = self.publisher.revision();
                    for cidr in cidrs {
                        if self.registry.released(cidr, &name, revision) {
                            self.quarantine.announced(cidr, revision.sequence);
                        }
                    }
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!("{error}; reading the store again");
                self.metrics.store_failed();
                self.reload().await?;
                Err(Refusal::Store(error.to_string()))
            }
        };
        self.sessions.forgive(self.clock.now().duration_since(began));
        for done in done {
            done(self, answer.clone());
        }
        self.publish_soon();
        Ok(())
    }

    fn announce(&mut self, touched: BTreeSet<NodeName>) {
        if touched.is_empty() {
            return;
        }
        self.roll.note(touched.iter(), &self.registry);
        let now = |name: NodeName| {
            let member = self.registry.nodes().get(&name).and_then(NodeRecord::member);
            (name, member)
        };
        self.publisher.take(touched.into_iter().map(now).collect());
        self.peers.touch();
    }

    async fn reload(&mut self) -> Result<(), StoreError> {
        let mut stored = self.store.load().await?;
        self.keep_unreadable(&mut stored);
        let mut changes: Changes = self.publisher.names().into_iter().map(|name| (name, None)).collect();
        let members = stored.nodes.iter().filter_map(NodeRecord::member);
        changes.extend(members.map(|member| (member.name.clone(), Some(member))));
        self.publisher.take(changes);
        let now = self.publisher.revision();
        let released = |cidr: &_| self.quarantine.since(cidr, now);
        let rebuilt = Registry::new(stored, &self.rules.pools, self.rules.admission(), released);
        let rebuilt =
            rebuilt.map_err(|error| StoreError::Damaged { store: "in use".to_owned(), detail: error.to_string() })?;
        let before = std::mem::replace(&mut self.registry, rebuilt);
        self.registry.go_on_from(before);
        self.roll.replace(&self.registry);
        // Whoever follows the Nodes looks whether all of them are in.
        self.quarantine.tell_freed();
        self.close_strangers();
        self.peers.touch();
        Ok(())
    }

    /// A member whose record cannot be read, or is gone while its pod CIDRs are claimed, is one still, as it was: its
    /// record is written again.
    fn keep_unreadable(&mut self, stored: &mut Stored) {
        self.metrics.set_unreadable(stored.unreadable.len());
        let is_held =
            |name: &NodeName, cidr: &PodCidr| stored.held.iter().any(|held| held.owner == *name && held.cidr == *cidr);
        let mut vanished: BTreeSet<NodeName> = stored.held.iter().map(|held| held.owner.clone()).collect();
        // What was not announced yet was never written as a whole either.
        vanished.retain(|name| {
            let known = self.registry.nodes().get(name).filter(|record| record.facts.is_some());
            known.is_some_and(|record| record.pod_cidrs.iter().all(|cidr| is_held(name, cidr)))
        });
        for name in vanished.iter().chain(&stored.unreadable).collect::<BTreeSet<_>>() {
            let Some(record) = self.registry.nodes().get(name) else { continue };
            stored.held.retain(|held| held.owner != *name);
            stored.nodes.push(record.clone());
            self.rewrite.insert(name.clone());
        }
    }

    /// Writes again what could not be read.
    pub(super) fn repair(&mut self, batch: &mut Batch) {
        for name in std::mem::take(&mut self.rewrite) {
            batch.writes.extend(self.registry.nodes().get(&name).cloned().map(Write::Node));
        }
    }

    /// Closes the streams of those that are no members any more.
    fn close_strangers(&mut self) {
        let now = self.clock.unix().seconds();
        let strangers: Vec<(NodeName, Refusal)> = self
            .sessions
            .iter()
            .filter_map(|(node, live)| Some((node.clone(), self.registry.check(&live.identity, now).err()?)))
            .collect();
        for (node, refusal) in strangers {
            tracing::info!(%node, "stream closed: {refusal}");
            self.sessions.close(&node, || refusal);
            self.peers.touch();
        }
    }

    fn publish_soon(&mut self) {
        if self.publisher.is_due_at_once(self.clock.now(), self.sessions.len()) {
            self.publish();
        }
    }

    /// Tells the streams of everything up to now.
    pub(super) fn publish(&mut self) {
        let now = self.clock.now();
        self.sessions.announced(self.publisher.revision().sequence, now, self.clock.unix());
        self.publisher.publish(now);
        self.peers.touch();
    }

    /// Closes the streams of those who are late with an acknowledgement, and of those whose certificate has ended.
    pub(super) fn close_overdue(&mut self) {
        self.close_strangers();
        if self.cleaning.is_some() {
            // Agents that clean up are told of no change, so they acknowledge none.
            return;
        }
        let sequence = self.publisher.published();
        for node in self.sessions.overdue(self.clock.now(), self.rules.acknowledge_timeout) {
            if self.sessions.get(&node).is_some_and(|live| live.is_degraded()) {
                continue;
            }
            tracing::warn!(%node, sequence, "no acknowledgement in time: stream closed");
            self.sessions.close(&node, || Refusal::NotAcknowledged { node: node.clone(), sequence });
            self.peers.touch();
        }
    }
}
