//! Standing still: the node is being taken out of the cluster for good.
//!
//! Owns that nothing is put back from then on, whatever events, members or pods come. Must never begin anything again: an
//! agent that is to program its node once more starts anew.

use std::{sync::Arc, time::SystemTime};

use tracing::warn;

use super::{Engine, Problem};
use crate::{kernel::Kernel, probe::Targets};

impl<K: Kernel> Engine<K> {
    /// From here on the kernel stays as it is, but for [`Self::clear_while_still`]; returns once nothing is under way.
    pub(super) async fn stand_still(&mut self, problem: Problem) {
        if !self.is_still {
            self.is_still = true;
            self.changed_pods.clear();
            self.mended.clear();
            self.out.targets.send_replace(Arc::new(Targets::default()));
            self.since = SystemTime::now();
        }
        self.saver.finish().await;
        self.trusted = false;
        self.status.problem = Some(problem);
        self.publish();
    }

    /// Removes every object of ours.
    pub(super) async fn clear_while_still(&mut self) -> Result<usize, String> {
        if !self.is_still {
            return Err("the loop has not been told to stand still".to_owned());
        }
        let removed = self.clear().await.map_err(|error| format!("{error:#}"))?;
        if removed > 0 {
            warn!(objects = removed, "removed everything of Weft from the kernel");
        }
        self.desired.clear();
        self.deviations.clear();
        self.unproven.clear();
        self.pods.clear();
        self.publish();
        Ok(removed)
    }
}
