//! The end of programming: the node is being taken out of the cluster for good.
//!
//! Owns that nothing is put back from then on, whatever events, members or pods come, and how everything is removed. Must never
//! begin anything again: an agent that is to program its node once more starts anew.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tracing::warn;
use weft_core::{diff::diff, kernel::Objects, types::LinkName};

use super::{Engine, EngineError, Problem};
use crate::{
    kernel::{Failure, Kernel, Scope},
    probe::Targets,
};

/// So many times everything is read and removed before the rest is called a failure.
const ROUNDS: usize = 4;
/// Between two of them: some objects go a moment after what they depend on.
const PAUSE: Duration = Duration::from_millis(50);

impl<K: Kernel> Engine<K> {
    /// From here on the kernel stays as it is, but for [`Self::clear`]; returns once nothing is under way.
    pub(super) async fn halt(&mut self, problem: Problem) {
        if !self.is_halted {
            self.is_halted = true;
            self.schedule.forget();
            self.out.targets.send_replace(Arc::new(Targets::default()));
            self.since = SystemTime::now();
        }
        self.saver.finish().await;
        self.trusted = false;
        self.status.problem = Some(problem);
        self.publish();
    }

    /// Removes every object of ours; how many that were.
    pub(super) async fn clear(&mut self) -> Result<usize, EngineError> {
        if !self.is_halted {
            return Err(EngineError::NotHalted);
        }
        let removed = remove_everything(&mut self.kernel, self.setup.device).await?;
        if removed > 0 {
            warn!(objects = removed, "removed everything of Weft from the kernel");
        }
        self.holdings.clear();
        self.pods.clear();
        self.publish();
        Ok(removed)
    }
}

/// Removes every object of ours from a kernel that no loop owns, or one that has halted; how many that were.
///
/// # Errors
/// If the kernel cannot be read, or something is still there after a few attempts.
pub async fn remove_everything(kernel: &mut impl Kernel, device: LinkName) -> Result<usize, EngineError> {
    let nothing = Objects::new();
    let mut removed = 0;
    for _ in 0..ROUNDS {
        let observed = kernel.read(Scope::All { wanted: &nothing }).await?;
        let plan = diff(&observed, &nothing, &|_| false, device);
        if plan.ops.is_empty() {
            return Ok(removed);
        }
        removed += plan.ops.len();
        for Failure { key, error } in kernel.apply(&plan.ops).await {
            warn!("{key} was not removed: {error}");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(EngineError::NotProgrammed("some objects are still there; see the messages above".to_owned()))
}
