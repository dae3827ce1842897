//! When a departed node's pod CIDRs may be handed out again.
//!
//! Owns the rule: after every connected agent has acknowledged the departure, and after a start not before those that
//! are still reconnecting had time to do so. Must never shorten it because a pool is full.

use weft_core::types::PodCidr;

use super::{
    actor::{Actor, Batch},
    registry::Registry,
};
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

    /// Where its object shows what is waited for, a departed node is remembered for as long as one of its pod CIDRs is in quarantine.
    fn forget_departed(&mut self, due: &[PodCidr], batch: &mut Batch) {
        let Registry { admission, allocator, .. } = &mut self.registry;
        let waiting = || allocator.departed().filter(|(cidr, _)| !due.contains(cidr)).map(|(_, owner)| owner).collect();
        batch.writes.extend(admission.forget_departed(waiting).into_iter().map(Write::RemoveLife));
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
