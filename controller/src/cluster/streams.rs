//! What agents say on their streams.
//!
//! Owns opening a stream, reports and its end. Must never believe an agent about another node's facts.

use std::net::IpAddr;

use weft_core::{
    standing::{Facts, Health},
    types::{NodeName, Revision},
};

use super::{
    ConnectAsk, Refusal, Reply, Report, Session,
    actor::{Actor, Batch},
    registry::Changed,
    sessions::Told,
};
use crate::store::StoreError;

/// Facts that are tried again in one go.
const AT_ONCE: usize = 16;

/// What becomes of the facts with which a stream is opened.
enum Admitted {
    Now(Changed),
    Later(Told),
}

impl Actor {
    pub(super) fn connect(&mut self, ask: ConnectAsk, id: u64, reply: Reply<Session>, batch: &mut Batch) {
        let node = ask.identity.name.clone();
        self.registry.note_own(ask.own);
        match self.admit(&ask) {
            Err(refusal) => {
                tracing::warn!(%node, source = %ask.source, "stream refused: {refusal}");
                self.complain(&node, &refusal);
                self.metrics.stream_ended(refusal.label());
                let _gone = reply.send(Err(refusal));
            }
            Ok(admitted) => {
                // Counts as connected from here on: of two claimants in one batch only the first may have an address.
                let closed = self.sessions.open(id, ask.identity, self.clock.now());
                self.node_connects(&node);
                self.peers.accept(&node);
                match admitted {
                    Admitted::Now(changed) => batch.add(changed),
                    Admitted::Later(told) => self.keep_for_later(&node, id, told),
                }
                batch.then(move |actor, answer| {
                    let heard = reply.send(answer.clone().map(|()| Session { id, closed })).is_ok();
                    if answer.is_err() || !heard {
                        actor.disconnect(&node, id);
                    }
                });
            }
        }
    }

    fn admit(&mut self, ask: &ConnectAsk) -> Result<Admitted, Refusal> {
        self.registry.check(&ask.identity, self.clock.unix().seconds())?;
        let Some(facts) = ask.facts.as_ref().filter(|_| self.cleaning.is_none()) else {
            return Ok(Admitted::Now(Changed::default()));
        };
        let node = &ask.identity.name;
        if !self.pace.has_room(node, self.clock.now()) {
            return Ok(Admitted::Later(Told { facts: facts.clone(), source: ask.source }));
        }
        self.take_facts(node, facts, ask.source).map(Admitted::Now)
    }

    /// Takes facts for which there is room.
    fn take_facts(&mut self, node: &NodeName, facts: &Facts, source: IpAddr) -> Result<Changed, Refusal> {
        let (facts, sessions) = (self.limited(facts), &self.sessions);
        let changed = self.registry.take_facts(node, &facts, source, |other| sessions.is_connected(other))?;
        if !changed.touched.is_empty() {
            self.pace.take(node, self.clock.now());
        }
        for (loser, address) in &changed.losers {
            self.tell_loser(loser, *address, node);
        }
        Ok(changed)
    }

    /// A connected member whose address another has proved to be its own begins anew: it is told why when it reports it again.
    fn tell_loser(&mut self, loser: &NodeName, address: IpAddr, holder: &NodeName) {
        if !self.sessions.is_connected(loser) {
            return;
        }
        let refusal = Refusal::AddressTaken { address, node: loser.clone(), holder: holder.clone() };
        tracing::warn!(node = %loser, "stream closed: {refusal}");
        self.complain(loser, &refusal);
        self.sessions.close(loser, || refusal);
        self.peers.touch();
    }

    /// The newest facts of a stream count, once it is their turn.
    fn keep_for_later(&mut self, node: &NodeName, id: u64, told: Told) {
        if let Some(live) = self.sessions.get_mut(node, id) {
            tracing::debug!(%node, "it reports facts too often; the newest are taken in a while");
            live.untaken = Some(told);
        }
    }

    /// A node's facts with an MTU that the cluster's network carries.
    fn limited(&self, facts: &Facts) -> Facts {
        let limit = self.rules.mtu.unwrap_or(u32::MAX);
        Facts { underlay_mtu: facts.underlay_mtu.min(limit), ..facts.clone() }
    }

    pub(super) fn report(&mut self, node: &NodeName, id: u64, report: Report, source: IpAddr, batch: &mut Batch) {
        if self.sessions.get_mut(node, id).is_none() {
            // An older stream of the same node, or one that is being closed.
            return;
        }
        if let Some(facts) = report.facts.filter(|_| self.cleaning.is_none())
            && !self.take_reported(node, id, Told { facts, source }, batch)
        {
            return;
        }
        if report.cleaned_up {
            self.note_cleaned(node);
        }
        self.take_standing(node, id, report.applied, report.health);
    }

    /// Takes facts of an open stream; false where they end it. What the store does not take stays to be tried again.
    fn take_reported(&mut self, node: &NodeName, id: u64, told: Told, batch: &mut Batch) -> bool {
        if let Some(live) = self.sessions.get_mut(node, id) {
            // The newest count.
            live.untaken = None;
        }
        if !self.pace.has_room(node, self.clock.now()) {
            self.keep_for_later(node, id, told);
            return true;
        }
        match self.take_facts(node, &told.facts, told.source) {
            Ok(changed) => batch.add(changed),
            Err(refusal) => {
                tracing::warn!(%node, "stream closed: {refusal}");
                self.complain(node, &refusal);
                self.sessions.close(node, || refusal);
                self.peers.touch();
                return false;
            }
        }
        let node = node.clone();
        batch.then(move |actor, answer| {
            if answer.is_err()
                && let Some(live) = actor.sessions.get_mut(&node, id)
            {
                live.untaken = Some(told);
            }
        });
        true
    }

    /// Tries facts again that the store did not take, or that came too fast, each by itself: what is wrong with one node's record is no other's matter.
    pub(super) async fn take_untaken(&mut self) -> Result<(), StoreError> {
        let (pace, now) = (&mut self.pace, self.clock.now());
        pace.tidy(now);
        for (node, id, told) in self.sessions.take_untaken(AT_ONCE, |node| pace.has_room(node, now)) {
            let mut batch = Batch::default();
            self.take_reported(&node, id, told, &mut batch);
            self.finish(batch).await?;
        }
        Ok(())
    }

    fn take_standing(&mut self, node: &NodeName, id: u64, applied: Option<Revision>, health: Option<Health>) {
        let (epoch, newest, now) = (self.epoch, self.publisher.revision().sequence, self.clock.unix());
        let Some(live) = self.sessions.get_mut(node, id) else { return };
        // Nobody can have applied what does not exist yet, nor does another term's count say anything here.
        if let Some(applied) = applied.filter(|applied| applied.epoch == epoch && applied.sequence <= newest)
            && live.acknowledged < Some(applied.sequence)
        {
            live.acknowledged = Some(applied.sequence);
            live.acknowledged_at = Some(now);
        }
        if let Some(health) = health {
            live.health = health;
        }
        self.peers.touch();
    }

    pub(super) fn disconnect(&mut self, node: &NodeName, id: u64) {
        if self.sessions.forget(node, id) {
            tracing::info!(%node, "stream ended");
            self.peers.touch();
        }
    }
}
