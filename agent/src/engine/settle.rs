//! A few objects: read, put right, and read back.
//!
//! Owns how a change of few objects becomes true without a full pass. Must never call it done without a reading; what a small look
//! cannot settle, a full pass does.

use std::{collections::BTreeSet, time::Duration};

use weft_core::kernel::{Key, Observed};

use super::Engine;
use crate::kernel::{Kernel, KernelError, Scope};

impl<K: Kernel> Engine<K> {
    /// Reads these objects and puts right what differs. False if that failed: then everything is looked at soon.
    pub(super) async fn reconcile_keys(&mut self, keys: &BTreeSet<Key>) -> Result<bool, KernelError> {
        let done = match self.read_keys(keys).await {
            Ok(observed) => Ok(self.settle(observed, keys).await),
            Err(error) => Err(error),
        };
        if !matches!(done, Ok(true)) {
            self.distrust();
        }
        done
    }

    /// From what is believed of these objects to what is wanted, read back. False if that failed.
    pub(super) async fn settle(&mut self, believed: Observed, keys: &BTreeSet<Key>) -> bool {
        let Some(plan) = self.holdings.plan_keys(&believed, keys) else { return false };
        if plan.ops.is_empty() {
            return plan.conflicts.is_empty();
        }
        let begun = self.holdings.begin(&plan);
        if !self.kernel.apply(&plan.ops).await.is_empty() {
            return false;
        }
        let Ok(observed) = self.read_keys(keys).await else { return false };
        let settled = self.holdings.plan_keys(&observed, keys).is_some_and(|plan| plan.is_empty());
        if settled {
            self.holdings.read_back(keys, &begun);
        }
        settled
    }

    /// Reads what another hand seems to have put right. If that was all that deviated, a full pass says that the node is well.
    pub(super) async fn look_at_mended(&mut self) {
        let keys = self.schedule.take_mended();
        let Ok(observed) = self.kernel.read(Scope::Keys(&keys)).await else { return self.distrust() };
        self.holdings.pardon(&observed, keys);
        if self.holdings.deviations().is_empty() {
            self.look_within(Duration::ZERO);
        } else {
            self.blamed = self.peers_to_blame();
            self.publish();
        }
    }

    /// A full pass very soon, because a small look did not do.
    pub(super) fn distrust(&mut self) {
        self.trusted = false;
        self.look_within(Duration::ZERO);
    }

    pub(super) async fn read_keys(&mut self, keys: &BTreeSet<Key>) -> Result<Observed, KernelError> {
        let listed: Vec<Key> = keys.iter().copied().collect();
        self.kernel.read(Scope::Keys(&listed)).await
    }
}
