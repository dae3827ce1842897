//! FDB changes that the agent made and the kernel will report without saying who made them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use weft_core::types::Mac;

/// What an entry leads to, as it is read; none if it is removed.
type Remote = Option<Option<IpAddr>>;

/// What is expected for each MAC. Only the latest counts.
#[derive(Debug, Clone, Default)]
pub(in crate::kernel::rtnl) struct Echoes(Arc<Mutex<HashMap<Mac, Remote>>>);

impl Echoes {
    /// Expects a change; before it is sent.
    pub(in crate::kernel::rtnl) fn expect(&self, mac: Mac, remote: Remote) {
        self.expected().insert(mac, remote);
    }

    /// True where exactly this was expected; it is then no longer.
    pub(super) fn take(&self, mac: Mac, remote: Remote) -> bool {
        let mut expected = self.expected();
        let matches = expected.get(&mac) == Some(&remote);
        if matches {
            expected.remove(&mac);
            if expected.is_empty() {
                expected.shrink_to_fit();
            }
        }
        matches
    }

    /// Expects nothing any more: reports were lost.
    pub(super) fn forget(&self) {
        *self.expected() = HashMap::new();
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<Mac, Remote>> {
        // A map is whole after any panic between these few calls.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
