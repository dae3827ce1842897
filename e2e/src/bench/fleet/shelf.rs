//! The memberships that hollow agents hold.
//!
//! Owns sharing: what thousands of agents in one process hold is the same but for those that are a step behind, so equal
//! ones are one in memory. Each agent's messages are checked all the same, as far as that does not cost more than what is
//! measured: that they continue what it holds, and that their newest change is in what it holds afterwards.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use anyhow::{Context, Result, ensure};
use weft_agent::controller::Update;
use weft_core::{
    membership::{Change, Delta, Digests, Snapshot, Told, View},
    types::Revision,
};

/// The memberships in use by their revision.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<HashMap<Revision, Weak<View>>>);

impl Shelf {
    /// What an agent that holds `held` holds after `update`.
    pub(super) fn after(&self, held: &Arc<View>, update: Update) -> Result<Arc<View>> {
        match update {
            Update::Snapshot(snapshot, told) => self.snapshot(snapshot, told),
            Update::Delta(delta) => self.delta(held, &delta),
            Update::Current { revision, found, .. } => self.adopt(held, revision, found),
        }
    }

    fn adopt(&self, held: &Arc<View>, revision: Revision, found: Digests) -> Result<Arc<View>> {
        let adopt = || {
            let mut view = View::clone(held);
            view.adopt(revision, found)?;
            Ok(view)
        };
        if held.digests() != found || held.revision() > revision {
            return adopt().map(Arc::new);
        }
        self.at(revision, adopt)
    }

    fn snapshot(&self, snapshot: Snapshot, told: Told) -> Result<Arc<View>> {
        let (revision, count) = (snapshot.revision, snapshot.members.len());
        let view = self.at(revision, || {
            let mut view = View::new();
            view.apply_snapshot(snapshot)?;
            Ok(view)
        })?;
        let is_whole = view.len() == count && told.is_of(&view.digests());
        ensure!(is_whole, "the snapshot at {revision} has another digest than its content");
        Ok(view)
    }

    fn delta(&self, held: &Arc<View>, delta: &Delta) -> Result<Arc<View>> {
        let has = held.revision();
        if delta.to.epoch == has.epoch && delta.to <= has {
            return Ok(Arc::clone(held));
        }
        let continues = delta.from.epoch == has.epoch && delta.to.epoch == has.epoch && delta.from <= has;
        ensure!(continues && held.settings().is_some(), "a delta from {} to {} came to {has}", delta.from, delta.to);
        let view = self.at(delta.to, || {
            let mut view = View::clone(held);
            view.apply_delta(delta)?;
            Ok(view)
        })?;
        if let Some((sequence, change)) = delta.changes.last() {
            let is_there = match change {
                Change::Upsert(member) => view.member(&member.name).as_ref() == Some(member),
                Change::Departed(name) => view.member(name).is_none(),
                Change::Settings(settings) => view.settings() == Some(settings),
            };
            ensure!(is_there, "change {sequence} is not in what is held at {}", delta.to);
        }
        Ok(view)
    }

    /// The one of this revision, made where nobody has it.
    fn at(&self, revision: Revision, make: impl FnOnce() -> Result<View>) -> Result<Arc<View>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = shelf.get(&revision).and_then(Weak::upgrade) {
            return Ok(view);
        }
        shelf.retain(|_, view| view.strong_count() > 0);
        let view = Arc::new(make().with_context(|| format!("revision {revision} cannot be held"))?);
        shelf.insert(revision, Arc::downgrade(&view));
        Ok(view)
    }
}
