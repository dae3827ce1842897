//! The members in chunks that are encoded once.
//!
//! Owns the partition by name: a change costs the encoding of its own chunk, and snapshots of different revisions share
//! all chunks that did not change between them, so that thousands of agents joining one after the other neither burn
//! the CPU nor hold thousands of copies. Must always hold exactly the members of the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use weft_core::{membership::Member, types::NodeName};

use super::frames;

/// Members in a chunk at most: about 10 KiB. A full one is split in halves.
const LARGEST: usize = 128;

#[derive(Debug, Default)]
struct Chunk {
    members: BTreeMap<NodeName, Member>,
    encoded: Option<Bytes>,
}

/// All members, by the first name that each chunk may hold.
#[derive(Debug, Default)]
pub(super) struct Chunks(BTreeMap<Option<NodeName>, Chunk>);

impl Chunks {
    /// Adds or changes a member.
    pub(super) fn upsert(&mut self, member: Member) {
        let start = self.start_of(&member.name);
        let chunk = self.0.entry(start).or_default();
        chunk.encoded = None;
        chunk.members.insert(member.name.clone(), member);
        if chunk.members.len() <= LARGEST {
            return;
        }
        let middle = chunk.members.keys().nth(LARGEST / 2).cloned().expect("it holds more than that");
        let members = chunk.members.split_off(&middle);
        self.0.insert(Some(middle), Chunk { members, encoded: None });
    }

    /// Removes a member.
    pub(super) fn remove(&mut self, name: &NodeName) {
        let start = self.start_of(name);
        let Some(chunk) = self.0.get_mut(&start) else { return };
        chunk.encoded = None;
        chunk.members.remove(name);
        if chunk.members.is_empty() {
            self.0.remove(&start);
        }
    }

    /// The encoded chunks, names ascending.
    pub(super) fn encoded(&mut self) -> impl ExactSizeIterator<Item = Bytes> {
        self.0
            .values_mut()
            .map(|chunk| chunk.encoded.get_or_insert_with(|| frames::chunk_body(chunk.members.values())).clone())
    }

    fn start_of(&self, name: &NodeName) -> Option<NodeName> {
        self.0.range(..=Some(name.clone())).next_back().and_then(|(start, _)| start.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::tests::member;

    fn starts(chunks: &Chunks) -> Vec<usize> {
        chunks.0.values().map(|chunk| chunk.members.len()).collect()
    }

    #[test]
    fn an_unchanged_chunk_is_never_encoded_again() {
        let mut chunks = Chunks::default();
        for n in 0..200 {
            chunks.upsert(member(n));
        }
        let before: Vec<Bytes> = chunks.encoded().collect();
        assert!(before.len() > 1, "200 members are in one chunk");
        chunks.upsert(Member { underlay_mtu: 9000, ..member(199) });
        let after: Vec<Bytes> = chunks.encoded().collect();
        let shared = before.iter().zip(&after).filter(|(old, new)| old.as_ptr() == new.as_ptr()).count();
        assert_eq!(shared, before.len() - 1, "more than the changed chunk was encoded");
    }

    #[test]
    fn members_come_in_order_and_chunks_stay_small() {
        let mut chunks = Chunks::default();
        // Neither ascending nor descending.
        for n in 0..1000 {
            chunks.upsert(member(n * 7919 % 1000));
        }
        assert!(starts(&chunks).iter().all(|len| *len <= LARGEST), "{:?}", starts(&chunks));
        let names: Vec<_> = chunks.0.values().flat_map(|chunk| chunk.members.keys()).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.is_sorted(), "names are out of order");
        for n in 0..1000 {
            chunks.remove(&member(n).name);
        }
        assert_eq!(chunks.encoded().len(), 0);
    }
}
