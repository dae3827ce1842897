//! When the streams are told of changes.
//!
//! Owns the membership log that all streams read, and the windows in which changes gather. Must never publish what the store has not
//! confirmed: whoever hands changes over has asked it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use weft_core::{
    membership::Log,
    settings::Settings,
    types::{NodeName, Revision},
};

use crate::fanout::{Changes, Fanout};

/// What a publication costs for each stream, the agent's acknowledgement included: a wake-up and a frame each way. Windows
/// grow by it, so that publications cannot overtake each other.
const STREAM_COST: Duration = Duration::from_micros(20);
/// The first change waits that fraction of a publication's cost for others.
const GATHER: u32 = 10;

/// The log, and when it is shown next.
#[derive(Debug)]
pub(super) struct Publisher {
    fanout: Arc<Fanout>,
    /// Changes within this time are announced together.
    coalesce: Duration,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(log: Log, coalesce: Duration) -> Self {
        Self { fanout: Arc::new(Fanout::new(log)), coalesce, last: None, due: None }
    }

    /// What streams read from.
    pub(super) const fn fanout(&self) -> &Arc<Fanout> {
        &self.fanout
    }

    /// The newest revision, published or about to be.
    pub(super) fn revision(&self) -> Revision {
        self.fanout.revision()
    }

    /// The sequence that the streams were told of last.
    pub(super) fn published(&self) -> u64 {
        self.fanout.published()
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.fanout.settings()
    }

    /// All names that were announced and have not departed.
    pub(super) fn names(&self) -> Vec<NodeName> {
        self.fanout.names()
    }

    /// Takes confirmed changes of members.
    pub(super) fn take(&self, changes: Changes) {
        self.fanout.take(changes);
    }

    /// Takes confirmed settings.
    pub(super) fn set_settings(&self, settings: Settings) {
        self.fanout.set_settings(settings);
    }

    /// Tells all streams, new ones too, to clean up their nodes, or to do so no more.
    pub(super) fn order_clean_up(&self, is_on: bool) {
        self.fanout.order_clean_up(is_on);
    }

    /// When the changes that gather are to be published; none where there are none.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Has the changes so far published at the end of the last publication's window; where that is over, at once, which it answers
    /// with true, or in a large cluster after a moment in which whatever comes together gathers.
    pub(super) fn is_due_at_once(&mut self, now: Instant, streams: usize) -> bool {
        if self.revision().sequence == self.published() || self.due.is_some() {
            return false;
        }
        let cost = STREAM_COST * u32::try_from(streams).unwrap_or(u32::MAX);
        let gathered = now + cost / GATHER;
        let due = self.last.map_or(gathered, |last| gathered.max(last + self.coalesce + cost));
        self.due = (due > now).then_some(due);
        self.due.is_none()
    }

    /// Tells the streams of everything up to now.
    pub(super) fn publish(&mut self, now: Instant) {
        (self.due, self.last) = (None, Some(now));
        self.fanout.publish();
    }
}
