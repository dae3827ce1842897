//! What the agent cannot write to its disk.
//!
//! Owns the list of it, for `weft status` and for what the node says of itself. Must never stop anybody: whoever cannot write goes
//! on with what is in memory, and tries again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// The node's certificate.
pub(crate) const IDENTITY: &str = "identity";
/// The last membership.
pub(crate) const MEMBERSHIP: &str = "membership";
/// Pods' addresses.
pub(crate) const PODS: &str = "pods";

/// The list. Clones share it.
#[derive(Debug, Clone)]
pub struct DiskTrouble {
    all: Arc<Mutex<BTreeMap<&'static str, String>>>,
    told: watch::Sender<Vec<String>>,
}

impl Default for DiskTrouble {
    fn default() -> Self {
        Self { all: Arc::default(), told: watch::Sender::new(Vec::new()) }
    }
}

impl DiskTrouble {
    /// `what` could not be written for this reason, or was written.
    pub(crate) fn set(&self, what: &'static str, problem: Option<String>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => drop(all.insert(what, problem)),
            None => drop(all.remove(what)),
        }
        let now: Vec<String> = all.values().cloned().collect();
        self.told.send_if_modified(|told| {
            let is_new = *told != now;
            *told = now;
            is_new
        });
    }

    /// True while `what` cannot be written, as far as somebody tried.
    pub(crate) fn has(&self, what: &str) -> bool {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).contains_key(what)
    }

    /// A sentence for each thing that cannot be written now.
    pub(crate) fn sentences(&self) -> watch::Receiver<Vec<String>> {
        self.told.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_until_it_is_written() {
        let trouble = DiskTrouble::default();
        let told = trouble.sentences();
        trouble.set("identity", Some("no space".to_owned()));
        trouble.clone().set("pods", Some("no space either".to_owned()));
        assert_eq!(*told.borrow(), ["no space", "no space either"]);
        trouble.set("identity", None);
        assert_eq!(*told.borrow(), ["no space either"]);
    }
}
