//! When a departed node's pod CIDRs may be handed out again.
//!
//! Owns the rule: after every connected agent has acknowledged the departure, and after a start not before those that
//! are still reconnecting had time to do so. Must never shorten it because a pool is full.

use std::collections::HashSet;

use weft_core::types::{NodeName, PodCidr};

use super::actor::{Actor, Batch};
use crate::store::Write;

impl Actor {
    /// Lets go what everybody has let go.
    pub(super) fn end_quarantine(&mut self, batch: &mut Batch) {
        let due = self.due();
        self.forget_departed(&due, batch);
        if due.is_empty() {
            return;
        }
        tracing::info!(cidrs = ?due.iter().map(ToString::to_string).collect::<Vec<_>>(), "pod CIDRs are free again");
        batch.writes.extend(due.iter().map(|cidr| Write::RemoveQuarantine(*cidr)));
        batch.then(move |actor, answer| {
            // Where the store did not confirm, they are in quarantine still, as read from it.
            if answer.is_ok() {
                for cidr in due {
                    actor.registry.allocator.clear(&cidr);
                    actor.released.remove(&cidr);
                }
                actor.freed.send_modify(|freed| *freed += 1);
            }
        });
    }

    /// In Kubernetes a departed node is remembered for as long as one of its pod CIDRs is in quarantine: until then its
    /// object shows what is waited for.
    fn forget_departed(&mut self, due: &[PodCidr], batch: &mut Batch) {
        if !self.follows_nodes() || self.registry.departing.is_empty() {
            return;
        }
        let waiting: HashSet<&NodeName> = self
            .registry
            .allocator
            .departed()
            .filter(|(cidr, _)| !due.contains(cidr))
            .map(|(_, owner)| owner)
            .collect();
        let forgotten: Vec<NodeName> =
            self.registry.departing.iter().filter(|name| !waiting.contains(name)).cloned().collect();
        for name in forgotten {
            self.registry.departing.remove(&name);
            batch.writes.push(Write::RemoveLife(name));
        }
    }

    fn due(&self) -> Vec<PodCidr> {
        let mut waiting = self.registry.allocator.quarantined().peekable();
        if waiting.peek().is_none() {
            return Vec::new();
        }
        let (now, newest) = (self.clock.now(), self.fanout.published());
        let Some(acknowledged) = self.sessions.acknowledged_by_all(newest, now, self.rules.acknowledge_timeout) else {
            return Vec::new();
        };
        let grace_is_over = now.duration_since(self.started) >= self.rules.reconnect_grace;
        // What is in quarantine since an earlier term counts as released at the beginning of this one.
        waiting
            .filter(|(_, since)| since.epoch == self.epoch && since.sequence <= acknowledged)
            .filter(|(cidr, _)| grace_is_over || self.released.contains_key(cidr))
            .map(|(cidr, _)| cidr)
            .collect()
    }
}
