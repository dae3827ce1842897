//! What operators and joining nodes ask.
//!
//! Owns these commands' way through registry and store to their answer. Must never answer before the store did.

use weft_core::types::{NodeName, Revision};

use super::{
    JoinAsk, Refusal, Reply, Status,
    actor::{Actor, Batch},
};
use crate::store::TokenRecord;

impl Actor {
    pub(super) fn join(&mut self, ask: &JoinAsk, reply: Reply<u64>, batch: &mut Batch) {
        if let Err(refusal) = self.registry.admission().check_hand(&ask.node) {
            return drop(reply.send(Err(refusal)));
        }
        batch.writes.extend(self.registry.forget_tokens(self.clock.unix().seconds(), self.rules.kept_seconds()));
        match self.registry.join(ask, self.clock.unix()) {
            Err(refusal) => {
                tracing::warn!(node = %ask.node, token = %ask.token.id, "join refused: {refusal}");
                self.metrics.join(refusal.label());
                let _gone = reply.send(Err(refusal));
            }
            Ok(joined) => {
                batch.add(joined.changed);
                let (node, incarnation, is_new_life) = (ask.node.clone(), joined.incarnation, joined.is_new_life);
                batch.then(move |actor, answer| {
                    actor.metrics.join(answer.as_ref().map_or_else(Refusal::label, |()| "ok"));
                    if answer.is_ok() && is_new_life {
                        tracing::info!(%node, incarnation, "joined");
                        actor.end_earlier_life(&node, incarnation);
                    }
                    let _gone = reply.send(answer.map(|()| incarnation));
                });
            }
        }
    }

    pub(super) fn end_earlier_life(&mut self, node: &NodeName, current: u64) {
        let held = self.sessions.get(node).map(|live| live.identity.incarnation).filter(|held| *held != current);
        if let Some(held) = held {
            self.sessions.close(node, || Refusal::StaleIdentity { node: node.clone(), held, current });
        }
        self.peers.touch();
    }

    pub(super) fn add_token(&mut self, token: TokenRecord, reply: Reply<()>, batch: &mut Batch) {
        if let Err(refusal) = self.registry.admission().check_hand(&token.node) {
            return drop(reply.send(Err(refusal)));
        }
        batch.add(self.registry.add_token(token, self.clock.unix().seconds()));
        batch.then(move |_, answer| drop(reply.send(answer)));
    }

    pub(super) fn delete_node(&mut self, name: &NodeName, reply: Reply<Revision>, batch: &mut Batch) {
        if let Err(refusal) = self.registry.admission().check_hand(name) {
            return drop(reply.send(Err(refusal)));
        }
        batch.writes.extend(self.registry.forget_lives(self.clock.unix().seconds(), self.rules.kept_seconds()));
        match self.registry.delete(name, Some(self.clock.unix().seconds())) {
            Err(refusal) => drop(reply.send(Err(refusal))),
            Ok((changed, cidrs)) => {
                batch.add(changed);
                batch.departed.push((name.clone(), cidrs));
                let node = name.clone();
                batch.then(move |actor, answer| {
                    if answer.is_ok() {
                        tracing::info!(%node, "deleted");
                        actor.sessions.close(&node, || Refusal::Deleted { node: node.clone() });
                    }
                    let _gone = reply.send(answer.map(|()| actor.publisher.revision()));
                });
            }
        }
    }

    pub(super) fn status(&self) -> Status {
        let revision = self.publisher.revision();
        let (now, limit) = (self.clock.now(), self.rules.acknowledge_timeout);
        let acknowledged = self.sessions.acknowledged_by_all(revision.sequence, now, limit);
        Status {
            revision,
            acknowledged: acknowledged.map(|sequence| Revision::new(self.epoch, sequence)),
            settings: self.publisher.settings(),
            awaited_agents: self.awaited_agents(),
            members: self.registry.nodes().len(),
            connected: self.sessions.len(),
            pools: self.registry.allocator().usage(),
            started: self.started_unix,
            allocates: self.registry.admission().allocates(),
        }
    }
}
