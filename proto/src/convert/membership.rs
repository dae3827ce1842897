//! Deltas and snapshots.

use std::sync::Arc;

use weft_core::{
    membership::{Change, Delta, Digest, Member, Snapshot, Told},
    settings::Settings,
    types::{NodeName, Revision},
};

use super::ConvertError;
use crate::v1;

/// Writes one change with its sequence.
pub fn change_to_wire(sequence: u64, change: &Change) -> v1::Change {
    let change = match change {
        Change::Upsert(member) => v1::change::Change::Upsert(member.as_ref().into()),
        Change::Departed(name) => v1::change::Change::Departed(name.to_string()),
        Change::Settings(settings) => v1::change::Change::Settings(settings.as_ref().into()),
    };
    v1::Change { sequence, change: Some(change) }
}

fn change(wire: v1::Change) -> Result<(u64, Change), ConvertError> {
    let change = match wire.change.ok_or_else(|| ConvertError::missing("change"))? {
        v1::change::Change::Upsert(member) => {
            Change::Upsert(Arc::new(Member::try_from(member).map_err(|error| error.inside("upsert"))?))
        }
        v1::change::Change::Departed(name) => {
            Change::Departed(NodeName::new(&name).map_err(|error| ConvertError::new("departed", error))?)
        }
        v1::change::Change::Settings(settings) => {
            Change::Settings(Arc::new(Settings::try_from(settings).map_err(|error| error.inside("settings"))?))
        }
    };
    Ok((wire.sequence, change))
}

/// Reads a delta up to the revision of the message that carried it.
pub fn delta(to: Revision, wire: v1::Delta) -> Result<Delta, ConvertError> {
    let from = wire.from.ok_or_else(|| ConvertError::missing("delta.from"))?.into();
    let changes = wire.changes.into_iter().map(change).collect::<Result<Vec<_>, _>>()?;
    Ok(Delta { from, to, changes })
}

/// Reads the digests of a membership as a peer of any version tells them; none where it holds none.
pub fn told(typed: &[u8], more: &[u8]) -> Result<Option<Told>, ConvertError> {
    let digest = |field, octets: &[u8]| match octets {
        [] => Ok(None),
        octets => Digest::try_from(octets).map(Some).map_err(|error| ConvertError::new(field, error)),
    };
    let more = digest("more_digest", more)?;
    Ok(digest("digest", typed)?.map(|typed| Told { typed, more }))
}

/// Collects a snapshot's chunks; only its end makes it count.
#[derive(Debug, Default)]
pub struct SnapshotBuilder {
    revision: Option<Revision>,
    members: Vec<Arc<Member>>,
}

/// Why a snapshot does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A part of it cannot be read.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// Its parts do not belong together.
    #[error("snapshot is not whole: {0}")]
    NotWhole(String),
}

impl SnapshotBuilder {
    /// Adds a chunk that will be part of `revision`.
    pub fn chunk(&mut self, revision: Revision, chunk: v1::SnapshotChunk) -> Result<(), SnapshotError> {
        self.same_revision(revision)?;
        self.members.reserve(chunk.members.len());
        for member in chunk.members {
            let member = Member::try_from(member).map_err(|error| error.inside("snapshot_chunk.members"))?;
            self.members.push(Arc::new(member));
        }
        Ok(())
    }

    /// Closes the snapshot: checks the count and that names ascend, which also excludes doubles. The digest is the
    /// caller's to compare, against what its own view computes.
    pub fn end(mut self, revision: Revision, end: v1::SnapshotEnd) -> Result<Snapshot, SnapshotError> {
        self.same_revision(revision)?;
        if usize::try_from(end.member_count).ok() != Some(self.members.len()) {
            let message = format!("{} members came, {} were announced", self.members.len(), end.member_count);
            return Err(SnapshotError::NotWhole(message));
        }
        if let Some(pair) = self.members.windows(2).find(|pair| pair[0].name >= pair[1].name) {
            return Err(SnapshotError::NotWhole(format!("member {} is out of order", pair[1].name)));
        }
        let settings = end.settings.ok_or_else(|| ConvertError::missing("snapshot_end.settings"))?;
        let settings = Settings::try_from(settings).map_err(|error| error.inside("snapshot_end.settings"))?;
        Ok(Snapshot { revision, settings: Arc::new(settings), members: self.members })
    }

    fn same_revision(&mut self, revision: Revision) -> Result<(), SnapshotError> {
        match self.revision.replace(revision) {
            Some(before) if before != revision => {
                Err(SnapshotError::NotWhole(format!("parts of {before} and of {revision} are mixed")))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(names: &[&str]) -> v1::SnapshotChunk {
        let member = |name: &&str| v1::Member {
            name: (*name).to_owned(),
            mac: vec![2; 6],
            underlay_mtu: 1500,
            ..Default::default()
        };
        v1::SnapshotChunk { members: names.iter().map(member).collect() }
    }

    fn end(member_count: u32) -> v1::SnapshotEnd {
        let settings = v1::Settings { mode: 1, vni: 87, port: 4789, outer_family: 1, ..Default::default() };
        v1::SnapshotEnd { settings: Some(settings), member_count, ..Default::default() }
    }

    #[test]
    fn counts_only_when_whole() {
        let at = Revision::new(1, 7);
        let with = |names: &[&str]| {
            let mut builder = SnapshotBuilder::default();
            builder.chunk(at, chunk(names)).expect("a valid chunk");
            builder
        };
        assert_eq!(with(&["a", "b"]).end(at, end(2)).expect("whole").members.len(), 2);
        assert!(with(&["a", "b"]).end(at, end(3)).is_err(), "a lost chunk went unseen");
        assert!(with(&["a", "a"]).end(at, end(2)).is_err(), "a doubled member went unseen");
        assert!(with(&["a"]).end(Revision::new(1, 8), end(1)).is_err(), "mixed revisions went unseen");
    }
}
