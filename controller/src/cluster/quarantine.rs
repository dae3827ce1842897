//! When a departed node's pod CIDRs may be handed out again.
//!
//! Owns the rule: after every connected agent has acknowledged the departure, and after a start not before those that
//! are still reconnecting had time to do so. Must never shorten it because a pool is full.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::watch, time::Instant};
use weft_core::{
    alloc::Allocator,
    types::{PodCidr, Revision},
};

use super::actor::{Actor, Batch};
use crate::store::Write;

/// What this term knows of pod CIDRs in quarantine.
#[derive(Debug)]
pub(super) struct Quarantine {
    epoch: u64,
    started: Instant,
    /// So long after the start agents may still be reconnecting.
    grace: Duration,
    /// When in this term the departure of a CIDR's owner was announced.
    released: HashMap<PodCidr, u64>,
    /// Rises whenever pod CIDRs became free, or may have.
    freed: watch::Sender<u64>,
}

impl Quarantine {
    /// Of the term `epoch` that has `started`.
    pub(super) fn new(epoch: u64, started: Instant, grace: Duration) -> Self {
        Self { epoch, started, grace, released: HashMap::new(), freed: watch::Sender::new(0) }
    }

    /// Follows what becomes free.
    pub(super) fn freed(&self) -> watch::Receiver<u64> {
        self.freed.subscribe()
    }

    /// Has whoever waits for a pod CIDR try again.
    pub(super) fn tell_freed(&self) {
        self.freed.send_modify(|freed| *freed += 1);
    }

    /// The departure of its owner was announced.
    pub(super) fn announced(&mut self, cidr: PodCidr, sequence: u64) {
        self.released.insert(cidr, sequence);
    }

    /// The store has let these go.
    pub(super) fn ended(&mut self, cidrs: &[PodCidr]) {
        self.released.retain(|cidr, _| !cidrs.contains(cidr));
    }

    /// When the departure of its owner was announced; `now` where it is in quarantine for another reason.
    pub(super) fn since(&self, cidr: &PodCidr, now: Revision) -> Revision {
        self.released.get(cidr).map_or(now, |sequence| Revision::new(self.epoch, *sequence))
    }

    /// Those that nobody routes any more at `now`, where every agent that counts has acknowledged `acknowledged`.
    fn due(&self, allocator: &Allocator, acknowledged: u64, now: Instant) -> Vec<PodCidr> {
        let grace_is_over = now.duration_since(self.started) >= self.grace;
        // What is in quarantine since an earlier term counts as released at the beginning of this one.
        allocator
            .quarantined()
            .filter(|(_, since)| since.epoch == self.epoch && since.sequence <= acknowledged)
            .filter(|(cidr, _)| grace_is_over || self.released.contains_key(cidr))
            .map(|(cidr, _)| cidr)
            .collect()
    }
}

impl Actor {
    /// Lets go what everybody has let go.
    pub(super) fn end_quarantine(&mut self, batch: &mut Batch) {
        let due = self.due();
        batch.writes.extend(self.registry.forget_departed(&due));
        if due.is_empty() {
            return;
        }
        tracing::info!(cidrs = ?due.iter().map(ToString::to_string).collect::<Vec<_>>(), "pod CIDRs are free again");
        batch.writes.extend(due.iter().map(|cidr| Write::RemoveQuarantine(*cidr)));
        batch.then(move |actor, answer| {
            // Where the store did not confirm, they are in quarantine still, as read from it.
            if answer.is_ok() {
                actor.registry.freed(&due);
                actor.quarantine.tell_freed();
            }
        });
    }

    fn due(&self) -> Vec<PodCidr> {
        let allocator = self.registry.allocator();
        if allocator.quarantined().next().is_none() {
            return Vec::new();
        }
        let (now, newest) = (self.clock.now(), self.publisher.published());
        let acknowledged = self.sessions.acknowledged_by_all(newest, now, self.rules.acknowledge_timeout);
        acknowledged.map(|acknowledged| self.quarantine.due(allocator, acknowledged, now)).unwrap_or_default()
    }
}
