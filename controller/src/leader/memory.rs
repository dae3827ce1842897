//! The Lease of tests: kept in memory, and failing on demand.
//!
//! Owns the record that all its clones share. Must never be what a controller runs with: whoever ends takes it along.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt as _, ready};

use super::{Bid, Claim, Lease, LeaseError, Seen};

/// A Lease that its clones share.
#[derive(Debug, Clone, Default)]
pub struct MemoryLease(Arc<Mutex<State>>);

/// What happens to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseTrouble {
    /// They are carried out and answered.
    #[default]
    None,
    /// They are refused, and nothing is changed.
    Refused,
    /// They are never answered, and nothing is changed.
    Silent,
    /// They are carried out, and never answered.
    AnswerLost,
}

#[derive(Debug, Default)]
struct State {
    seen: Seen,
    writes: u64,
    trouble: LeaseTrouble,
}

impl MemoryLease {
    /// From now on this happens to requests.
    pub fn set_trouble(&self, trouble: LeaseTrouble) {
        self.state().trouble = trouble;
    }

    /// Writes it as somebody else would, whatever its version.
    pub fn put(&self, change: impl FnOnce(&mut Seen)) {
        self.state().put(change);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request<T: Send + 'static>(
        &self,
        carry_out: impl FnOnce(&mut State) -> Result<T, LeaseError>,
    ) -> BoxFuture<'static, Result<T, LeaseError>> {
        let mut state = self.state();
        match state.trouble {
            LeaseTrouble::None => ready(carry_out(&mut state)).boxed(),
            LeaseTrouble::Refused => ready(Err(LeaseError::Failed("it was told to refuse".into()))).boxed(),
            LeaseTrouble::Silent => std::future::pending().boxed(),
            LeaseTrouble::AnswerLost => {
                let _lost = carry_out(&mut state);
                std::future::pending().boxed()
            }
        }
    }
}

impl State {
    fn put(&mut self, change: impl FnOnce(&mut Seen)) -> Seen {
        change(&mut self.seen);
        self.writes += 1;
        self.seen.version = self.writes.to_string();
        self.seen.clone()
    }

    fn hold(&mut self, bid: &Bid, claim: &Claim) -> Result<Seen, LeaseError> {
        if bid.version != self.seen.version {
            return Err(LeaseError::Conflict);
        }
        Ok(self.put(|seen| {
            seen.holder = Some(claim.holder.clone());
            seen.address = Some(claim.address);
            seen.duration = Some(claim.duration);
            seen.transitions = Some(bid.transitions);
        }))
    }

    fn release(&mut self, holder: &str) -> bool {
        let is_its_own = self.seen.holder.as_deref() == Some(holder);
        if is_its_own {
            self.put(|seen| (seen.holder, seen.address) = (None, None));
        }
        is_its_own
    }
}

impl Lease for MemoryLease {
    fn name(&self) -> String {
        "the Lease in memory".to_owned()
    }

    fn read(&mut self) -> BoxFuture<'_, Result<Seen, LeaseError>> {
        self.request(|state| Ok(state.seen.clone()))
    }

    fn hold<'a>(&'a mut self, bid: &'a Bid, claim: &'a Claim) -> BoxFuture<'a, Result<Seen, LeaseError>> {
        self.request(|state| state.hold(bid, claim))
    }

    fn release<'a>(&'a mut self, holder: &'a str) -> BoxFuture<'a, Result<bool, LeaseError>> {
        self.request(|state| Ok(state.release(holder)))
    }
}
