//! Objects that could not be put right, and that another hand has put right since.
//!
//! Owns that such a deviation is not reported for longer than it takes to read the object back: without a look of its own it
//! would stay until the next full one, which comes the later the longer something is wrong. Must never take an event for
//! the state of the kernel: a deviation goes only with a reading.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;
use weft_core::{diff::diff_keys, kernel::Key};

use super::{Engine, SETTLE};
use crate::kernel::{Kernel, Scope};

/// At most so often, since an object that two hands change in turn comes again and again.
const PAUSE: Duration = Duration::from_millis(500);

impl<K: Kernel> Engine<K> {
    /// An event shows an object as it should be: where it deviated, it is read soon.
    pub(super) fn seems_mended(&mut self, key: Key) {
        if !self.deviations.contains_key(&key) {
            return;
        }
        if self.mended.is_empty() {
            self.next_mended_look = (Instant::now() + SETTLE).max(self.next_mended_look + PAUSE);
        }
        self.mended.insert(key);
    }

    /// Reads what seems mended. Where that was all that deviated, a full look says that the node is well.
    pub(super) async fn look_at_mended(&mut self) {
        let keys: Vec<Key> = std::mem::take(&mut self.mended).into_iter().collect();
        let Ok(observed) = self.kernel.read(Scope::Keys(&keys)).await else { return self.distrust() };
        for key in keys {
            let plan = diff_keys(&observed, &self.desired, &BTreeSet::from([key]), &|_| false, self.setup.device);
            if plan.is_some_and(|plan| plan.is_empty()) {
                self.deviations.remove(&key);
                self.unproven.remove(&key);
            }
        }
        if self.deviations.is_empty() {
            self.look_within(Duration::ZERO);
        } else {
            self.blamed = self.peers_to_blame();
            self.publish();
        }
    }
}
