//! The controller's disk: the real store of maps, and a ledger of what is on it.
//!
//! Owns the ways a write goes wrong, and what must be true of all that was ever written. The ledger is kept from the
//! writes themselves, so that it depends on nothing that it is there to judge.

mod ledger;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{FutureExt, future::BoxFuture};

pub(super) use self::ledger::Ledger;
use super::{Checked, Planted, Violation, time::SimClock};
use crate::store::{Failure, MemoryStore, Store, StoreError, Stored, Write};

/// How the next write goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// As the store itself can fail.
    Store(Failure),
    /// Written, but reported as failed, and the store goes on.
    Unconfirmed,
}

#[derive(Debug, Default)]
struct Inner {
    ledger: Ledger,
    fault: Option<Fault>,
    /// The planted bug: confirmed, but in no more than memory.
    is_hasty: bool,
    unwritten: Vec<Vec<Write>>,
    /// How long the next write takes, in milliseconds, and the last one took.
    stall: u64,
    stalled_last: Option<u64>,
    /// All the time that writes took.
    stalled: u64,
    /// The planted bug: nobody sees how long a write takes until it is over.
    is_unseen: bool,
    violation: Option<Violation>,
}

/// The disk; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    store: MemoryStore,
    clock: Arc<SimClock>,
    inner: Arc<Mutex<Inner>>,
}

impl Disk {
    pub(super) fn new(clock: Arc<SimClock>, planted: Planted) -> Self {
        let is_hasty = planted == Planted::AnnounceBeforePersist;
        let inner = Inner { is_hasty, is_unseen: planted == Planted::StallCounts, ..Inner::default() };
        Self { store: MemoryStore::default(), clock, inner: Arc::new(Mutex::new(inner)) }
    }

    pub(super) fn fail_next(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    /// The next write takes so long.
    pub(super) fn stall_next(&self, ms: u64) {
        self.lock().stall = ms;
    }

    /// How long the last write took, where it took long and nobody has asked yet.
    pub(super) fn take_stall(&self) -> Option<u64> {
        self.lock().stalled_last.take()
    }

    /// How long all writes took together.
    pub(super) fn stalled(&self) -> u64 {
        self.lock().stalled
    }

    /// After a crash: what was only in memory is gone, what is on the disk can be read again.
    pub(super) fn reopen(&self) {
        self.lock().unwritten.clear();
        self.store.reopen();
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.lock().unwritten.is_empty()
    }

    /// Writes what was confirmed too early.
    pub(super) fn flush(&self) -> Checked {
        let batches = std::mem::take(&mut self.lock().unwritten);
        for batch in batches {
            self.write(&batch).map_err(|error| Violation(format!("the store of maps failed unasked: {error}")))?;
        }
        Ok(())
    }

    pub(super) fn ledger<T>(&self, read: impl FnOnce(&Ledger) -> T) -> T {
        read(&self.lock().ledger)
    }

    /// What was found wrong while writing.
    pub(super) fn checked(&self) -> Checked {
        self.lock().violation.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, batch: &[Write]) -> Result<(), StoreError> {
        let outcome = self.store.commit(batch.to_vec()).now_or_never().expect("maps answer at once");
        if outcome.is_ok() {
            self.note(batch);
        }
        outcome
    }

    fn note(&self, batch: &[Write]) {
        let mut inner = self.lock();
        if let Err(violation) = inner.ledger.take(batch) {
            inner.violation.get_or_insert(violation);
        }
    }

    fn commit_now(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        let (is_hasty, fault, stall) = {
            let mut inner = self.lock();
            let stall = std::mem::take(&mut inner.stall);
            inner.stalled += stall;
            inner.stalled_last = (stall > 0).then_some(stall);
            (inner.is_hasty, inner.fault.take(), if inner.is_unseen { 0 } else { stall })
        };
        self.clock.wait(stall);
        if is_hasty {
            self.lock().unwritten.push(batch);
            return Ok(());
        }
        let Some(fault) = fault else { return self.write(&batch) };
        if let Fault::Store(failure) = fault {
            self.store.fail_next(failure);
        }
        let outcome = self.write(&batch);
        match fault {
            Fault::Store(Failure::CrashAfter) => {
                self.note(&batch);
                outcome
            }
            Fault::Store(_) => outcome,
            Fault::Unconfirmed => {
                Err(StoreError::Write { store: "maps".to_owned(), detail: "no answer in time".to_owned() })
            }
        }
    }
}

impl Store for Disk {
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        self.store.load()
    }

    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.commit_now(batch) })
    }
}
