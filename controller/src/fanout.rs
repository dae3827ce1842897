//! From the membership to thousands of streams.
//!
//! Owns the one [`Log`] and its encoded form. Every stream has a cursor, not a queue: what it has not sent yet is
//! whatever the log holds behind the cursor, so a slow agent gets the latest of each member and costs nothing. Changes
//! are published together at the end of a short window, which keeps the cursors of all streams that keep up in step:
//! they share one encoded frame. Must never be handed a change that the store has not confirmed.

mod chunks;
mod frames;
mod order;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::watch;
use weft_core::{
    membership::{Log, Member, Told},
    settings::Settings,
    types::{NodeName, Revision},
};

use chunks::Chunks;
pub(crate) use frames::Snapshot;
pub(crate) use order::Changes;

/// Encoded deltas kept for streams that are about to ask for the same.
const RECENT_FRAMES: usize = 16;
/// A delta of more changes than this is sent as a snapshot, which all who lag that far share.
const LARGEST_DELTA: usize = 1000;

/// What a stream sends next.
#[derive(Debug)]
pub(crate) enum Next {
    /// A whole gRPC message; afterwards the stream stands at this sequence.
    Frame(Bytes, u64),
    /// A whole membership; afterwards the stream stands at its sequence.
    Snapshot(Arc<Snapshot>),
}

/// The membership, ready to be sent.
#[derive(Debug)]
pub(crate) struct Fanout {
    inner: Mutex<Inner>,
    published: watch::Sender<u64>,
    /// Streams end with the order to clean up instead of the membership.
    cleaning: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    chunks: Chunks,
    recent: VecDeque<((u64, u64), Bytes)>,
    snapshot: Option<Arc<Snapshot>>,
}

impl Fanout {
    /// A term that begins with this membership.
    pub(crate) fn new(log: Log) -> Self {
        let published = watch::Sender::new(log.revision().sequence);
        let mut chunks = Chunks::default();
        for member in log.members() {
            chunks.upsert(member.as_ref().clone());
        }
        Self {
            inner: Mutex::new(Inner { log, chunks, recent: VecDeque::new(), snapshot: None }),
            published,
            cleaning: AtomicBool::new(false),
        }
    }

    /// Wakes a stream when there is something new.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// The newest revision, published or about to be.
    pub(crate) fn revision(&self) -> Revision {
        self.lock().log.revision()
    }

    /// The newest revision that streams were told of.
    pub(crate) fn published(&self) -> u64 {
        *self.published.borrow()
    }

    /// Takes the changes of a batch, losers of an address first. A stream that reads meanwhile sees all of them or none.
    pub(crate) fn take(&self, mut changes: Changes) {
        let mut inner = self.lock();
        for name in order::losers_first(&inner.log, &changes) {
            match changes.remove(&name).flatten() {
                Some(member) => inner.upsert(member),
                None => inner.remove(&name),
            }
        }
    }

    /// Adds or changes a member.
    #[cfg(test)]
    pub(crate) fn upsert(&self, member: Member) {
        self.lock().upsert(member);
    }

    /// The members' names.
    pub(crate) fn names(&self) -> Vec<NodeName> {
        self.lock().log.members().map(|member| member.name.clone()).collect()
    }

    /// The cluster's settings.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(self.lock().log.settings())
    }

    /// Changes the cluster's settings.
    pub(crate) fn set_settings(&self, settings: Settings) -> Option<Revision> {
        self.lock().log.set_settings(settings)
    }

    /// Tells the streams of everything up to now.
    pub(crate) fn publish(&self) {
        let sequence = self.revision().sequence;
        self.published.send_if_modified(|published| std::mem::replace(published, sequence) != sequence);
    }

    /// From now on every stream tells its agent to clean up, and nothing more; or none does.
    pub(crate) fn order_clean_up(&self, is_on: bool) {
        self.cleaning.store(is_on, Ordering::Release);
        // Wakes the streams.
        self.published.send_modify(|_| ());
    }

    /// The order to clean up, while it stands.
    pub(crate) fn clean_up(&self) -> Option<Bytes> {
        self.cleaning.load(Ordering::Acquire).then(|| frames::clean_up(self.revision()))
    }

    /// Where a stream begins whose agent holds `held`, and what it told of its content.
    pub(crate) fn begin(&self, held: Option<Revision>, told: Option<Told>) -> Next {
        let mut inner = self.lock();
        let now = inner.log.revision();
        let is_current = told.is_some_and(|told| told.is_of(&inner.log.digests()));
        match held {
            Some(held) if held.epoch == now.epoch && held.sequence < now.sequence => inner.after(held.sequence),
            // Across terms, and at the very same revision, only the content counts.
            Some(held) if is_current && (held.epoch < now.epoch || held == now) => {
                Next::Frame(frames::current(now, inner.log.digests()), now.sequence)
            }
            _ => Next::Snapshot(inner.snapshot()),
        }
    }

    /// What comes after `sequence`; none where the stream is current.
    pub(crate) fn after(&self, sequence: u64) -> Option<Next> {
        let mut inner = self.lock();
        (sequence < inner.log.revision().sequence).then(|| inner.after(sequence))
    }

    /// All that streams are or may be told, with its digests.
    #[cfg(test)]
    pub(crate) fn contents(&self) -> (weft_core::membership::Snapshot, weft_core::membership::Digests) {
        let inner = self.lock();
        (inner.log.snapshot(), inner.log.digests())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn upsert(&mut self, member: Member) {
        if self.log.upsert(member.clone()).is_some() {
            self.chunks.upsert(member);
        }
    }

    fn remove(&mut self, name: &NodeName) {
        if self.log.remove(name).is_some() {
            self.chunks.remove(name);
        }
    }

    fn after(&mut self, sequence: u64) -> Next {
        let now = self.log.revision();
        let span = (sequence, now.sequence);
        if let Some((_, frame)) = self.recent.iter().find(|(recent, _)| *recent == span) {
            return Next::Frame(frame.clone(), now.sequence);
        }
        if self.log.changes_after(sequence).nth(LARGEST_DELTA).is_some() {
            return Next::Snapshot(self.snapshot());
        }
        let Some(delta) = self.log.since(Revision::new(now.epoch, sequence)) else {
            return Next::Snapshot(self.snapshot());
        };
        let frame = frames::delta(&delta);
        if self.recent.len() == RECENT_FRAMES {
            self.recent.pop_front();
        }
        self.recent.push_back((span, frame.clone()));
        Next::Frame(frame, now.sequence)
    }

    /// The membership now: an agent must not even for a moment see an earlier life of itself.
    fn snapshot(&mut self) -> Arc<Snapshot> {
        let now = self.log.revision();
        if let Some(snapshot) = self.snapshot.as_ref().filter(|snapshot| snapshot.sequence == now.sequence) {
            return Arc::clone(snapshot);
        }
        let Self { log, chunks, .. } = self;
        let (count, digests) = (log.members().len(), log.digests());
        let fresh = Arc::new(Snapshot::new(now, chunks.encoded(), log.settings(), count, digests));
        self.snapshot = Some(Arc::clone(&fresh));
        fresh
    }
}

#[cfg(test)]
mod tests;
