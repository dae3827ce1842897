//! A store in memory that fails on demand.
//!
//! Owns the failures a real store can show: a write refused, one that takes long, and a crash before or after the write became durable. For
//! tests of whatever stands above the store. Must never be used to keep anything.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;

use super::{
    Store, StoreError, Stored, Write,
    codec::{self, Table},
};

/// How the next commit goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nothing is written, and the store goes on.
    Refused,
    /// All is written but not confirmed, and the store goes on.
    Unconfirmed,
    /// Nothing is written, and the store is gone until it is opened again.
    CrashBefore,
    /// All is written but not confirmed, and the store is gone until it is opened again.
    CrashAfter,
}

/// A failure that waits for a batch with a write that it is meant for.
#[derive(Debug, Clone, Copy)]
struct Planned {
    failure: Failure,
    is_meant: fn(&Write) -> bool,
}

#[derive(Debug, Default)]
struct Inner {
    records: BTreeMap<(&'static str, String), (Table, Vec<u8>)>,
    planned: Option<Planned>,
    stall: Option<Duration>,
    crashed: bool,
    commits: usize,
}

/// The store; clones share what it holds.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Inner>>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next commit fail, whatever it writes.
    pub fn fail_next(&self, failure: Failure) {
        self.fail_next_with(failure, |_| true);
    }

    /// Makes the next commit fail that has such a write. Who owns the store writes of its own accord too, and such a write
    /// must not take the failure that was meant for another.
    pub fn fail_next_with(&self, failure: Failure, is_meant: fn(&Write) -> bool) {
        self.lock().planned = Some(Planned { failure, is_meant });
    }

    /// Makes the next commit take this long.
    pub fn stall_next(&self, time: Duration) {
        self.lock().stall = Some(time);
    }

    /// Opens it again after a crash.
    pub fn reopen(&self) {
        self.lock().crashed = false;
    }

    /// How many batches were written.
    pub fn commits(&self) -> usize {
        self.lock().commits
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(detail: &str) -> StoreError {
        StoreError::Write { store: "memory".to_owned(), detail: detail.to_owned() }
    }

    fn commit_now(&self, batch: &[Write]) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.crashed {
            return Err(Self::failed("it crashed and was not opened again"));
        }
        let failure =
            inner.planned.take_if(|planned| batch.iter().any(planned.is_meant)).map(|planned| planned.failure);
        match failure {
            Some(Failure::Refused) => return Err(Self::failed("the disk is full")),
            Some(Failure::CrashBefore) => {
                inner.crashed = true;
                return Err(Self::failed("it crashed before the write"));
            }
            Some(Failure::Unconfirmed | Failure::CrashAfter) | None => {}
        }
        for put in batch.iter().map(codec::encode) {
            let key = (put.table.name(), put.key);
            match put.value {
                Some(value) => drop(inner.records.insert(key, (put.table, value))),
                None => drop(inner.records.remove(&key)),
            }
        }
        inner.commits += 1;
        if failure.is_some() {
            inner.crashed = failure == Some(Failure::CrashAfter);
            return Err(Self::failed("the confirmation got lost"));
        }
        Ok(())
    }

    fn load_now(&self) -> Result<Stored, StoreError> {
        let inner = self.lock();
        if inner.crashed {
            return Err(Self::failed("it crashed and was not opened again"));
        }
        let mut stored = Stored::default();
        for ((_, key), (table, value)) in &inner.records {
            codec::decode(*table, key, value, &mut stored)
                .map_err(|error| StoreError::Damaged { store: "memory".to_owned(), detail: error.to_string() })?;
        }
        Ok(stored)
    }
}

impl Store for MemoryStore {
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>> {
        Box::pin(async { self.load_now() })
    }

    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let stall = self.lock().stall.take();
            if let Some(time) = stall {
                tokio::time::sleep(time).await;
            }
            self.commit_now(&batch)
        })
    }
}
