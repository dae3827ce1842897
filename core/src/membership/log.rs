//! The controller's side of the membership: the members now, and what changed on the way.
//!
//! Owns the sequence of one epoch. The log of changes is compacted: a change of a member takes the place of the one
//! before, so a reader however slow gets the latest of each and the log never outgrows members plus departures.
//! Departures are kept up to a bound; a reader from before the oldest one forgotten needs a snapshot. Must never
//! announce what a store has not confirmed: the caller persists first.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::{Change, Delta, Digests, Member, Snapshot};
use crate::{
    settings::Settings,
    types::{NodeName, Revision},
};

/// Departures that are remembered unless [`Log::with_departures_kept`] says otherwise.
const DEPARTURES_KEPT: usize = 4096;

/// The membership of one epoch with its history.
#[derive(Debug, Clone)]
pub struct Log {
    revision: Revision,
    digests: Digests,
    settings: Arc<Settings>,
    settings_sequence: u64,
    members: BTreeMap<NodeName, Entry>,
    /// Latest change of each member and of the settings, by sequence; nothing at or below the floor.
    changes: BTreeMap<u64, Change>,
    /// Departures that no return has overtaken, by sequence and by name.
    departures: BTreeMap<u64, NodeName>,
    departed: BTreeMap<NodeName, u64>,
    departures_kept: usize,
    floor: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    member: Arc<Member>,
    /// The change that made it what it is; 0 where the epoch began with it.
    sequence: u64,
}

impl Log {
    /// A log at sequence 0 of `epoch`. Of several members with one name the last counts.
    pub fn new(epoch: u64, settings: Settings, members: impl IntoIterator<Item = Member>) -> Self {
        let entry = |member: Member| (member.name.clone(), Entry { member: Arc::new(member), sequence: 0 });
        let members: BTreeMap<_, _> = members.into_iter().map(entry).collect();
        let digests = Digests::of(&settings, members.values().map(|entry| entry.member.as_ref()));
        Self {
            revision: Revision::new(epoch, 0),
            digests,
            settings: Arc::new(settings),
            settings_sequence: 0,
            members,
            changes: BTreeMap::new(),
            departures: BTreeMap::new(),
            departed: BTreeMap::new(),
            departures_kept: DEPARTURES_KEPT,
            floor: 0,
        }
    }

    /// Remembers that many departures at most.
    #[must_use]
    pub fn with_departures_kept(mut self, count: usize) -> Self {
        self.departures_kept = count;
        self.forget_departures();
        self
    }

    /// The revision of the latest change.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The digests of members and settings.
    pub const fn digests(&self) -> Digests {
        self.digests
    }

    /// The cluster's settings.
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The members by name, ascending.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Arc<Member>> {
        self.members.values().map(|entry| &entry.member)
    }

    /// A member.
    pub fn get(&self, name: &NodeName) -> Option<&Arc<Member>> {
        self.members.get(name).map(|entry| &entry.member)
    }

    /// The change that made a member what it is.
    pub fn revision_of(&self, name: &NodeName) -> Option<Revision> {
        self.members.get(name).map(|entry| Revision::new(self.revision.epoch, entry.sequence))
    }

    /// The lowest sequence from which a delta can be had.
    pub const fn floor(&self) -> u64 {
        self.floor
    }

    /// Adds or changes a member; none where it is like that already.
    pub fn upsert(&mut self, member: Member) -> Option<Revision> {
        let old = self.members.get(&member.name);
        if old.is_some_and(|old| *old.member == member) {
            return None;
        }
        let replaced = old.map(|old| old.sequence).or_else(|| self.departed.remove(&member.name));
        if let Some(old) = old {
            self.digests.subtract(&old.member);
        }
        self.digests.add(&member);
        let member = Arc::new(member);
        let revision = self.record(replaced, Change::Upsert(Arc::clone(&member)));
        self.members.insert(member.name.clone(), Entry { member, sequence: revision.sequence });
        Some(revision)
    }

    /// Ends a membership; none where there is no such member.
    pub fn remove(&mut self, name: &NodeName) -> Option<Revision> {
        let old = self.members.remove(name)?;
        self.digests.subtract(&old.member);
        let revision = self.record(Some(old.sequence), Change::Departed(name.clone()));
        self.departed.insert(name.clone(), revision.sequence);
        self.departures.insert(revision.sequence, name.clone());
        self.forget_departures();
        Some(revision)
    }

    /// Changes the settings; none where they are like that already.
    pub fn set_settings(&mut self, settings: Settings) -> Option<Revision> {
        if *self.settings == settings {
            return None;
        }
        self.digests.subtract_settings(&self.settings);
        self.digests.add_settings(&settings);
        self.settings = Arc::new(settings);
        let revision = self.record(Some(self.settings_sequence), Change::Settings(Arc::clone(&self.settings)));
        self.settings_sequence = revision.sequence;
        Some(revision)
    }

    /// All that changed after `held`, or none where only a snapshot will do: another epoch, a sequence that is not
    /// ours, or one from before a departure that is forgotten.
    pub fn since(&self, held: Revision) -> Option<Delta> {
        let known = self.floor..=self.revision.sequence;
        if held.epoch != self.revision.epoch || !known.contains(&held.sequence) {
            return None;
        }
        let changes = self.changes_after(held.sequence).map(|(sequence, change)| (sequence, change.clone())).collect();
        Some(Delta { from: held, to: self.revision, changes })
    }

    /// The latest change of each member and of the settings after `sequence`, ascending. Complete only where
    /// `sequence` is not below [`Self::floor`].
    pub fn changes_after(&self, sequence: u64) -> impl Iterator<Item = (u64, &Change)> {
        self.changes.range((Bound::Excluded(sequence), Bound::Unbounded)).map(|(&sequence, change)| (sequence, change))
    }

    /// The whole membership now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            revision: self.revision,
            settings: Arc::clone(&self.settings),
            members: self.members().cloned().collect(),
        }
    }

    fn record(&mut self, replaced: Option<u64>, change: Change) -> Revision {
        if let Some(replaced) = replaced {
            self.changes.remove(&replaced);
            self.departures.remove(&replaced);
        }
        self.revision.sequence += 1;
        self.changes.insert(self.revision.sequence, change);
        self.revision
    }

    /// Forgets the oldest departures beyond the bound, and with them every change that only readers from before would
    /// have needed.
    fn forget_departures(&mut self) {
        while self.departures.len() > self.departures_kept {
            let Some((sequence, name)) = self.departures.pop_first() else { break };
            self.departed.remove(&name);
            self.floor = sequence;
        }
        while let Some(oldest) = self.changes.first_entry()
            && *oldest.key() <= self.floor
        {
            oldest.remove();
        }
    }
}
