//! Messages as the bytes that go over the wire.
//!
//! Owns the gRPC framing: a zero byte for "not compressed", the length in four octets of network byte order, the
//! message. Must never be called once per stream for the same content.

use bytes::{BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};
use weft_core::{
    membership::{Delta, Digests, Member},
    settings::Settings,
    types::Revision,
};
use weft_proto::{
    convert::change_to_wire,
    v1::{self, watch_response},
};

/// Number of field `snapshot_chunk` in `WatchResponse`.
const SNAPSHOT_CHUNK: u32 = 3;

/// A membership, encoded once for all who need it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The sequence it gives.
    pub(crate) sequence: u64,
    /// Its chunks and its end, as gRPC messages in parts: of a chunk's message the beginning, which names the revision,
    /// is its own, while the rest is shared with other snapshots.
    pub(crate) frames: Vec<Bytes>,
}

impl Snapshot {
    pub(super) fn new(
        revision: Revision,
        chunks: impl ExactSizeIterator<Item = Bytes>,
        settings: &Settings,
        member_count: usize,
        digests: Digests,
    ) -> Self {
        let mut frames = Vec::with_capacity(chunks.len() * 2 + 1);
        for body in chunks {
            frames.push(chunk_beginning(revision, body.len()));
            frames.push(body);
        }
        let end = v1::SnapshotEnd {
            settings: Some(settings.into()),
            member_count: u32::try_from(member_count).unwrap_or(u32::MAX),
            digest: digests.typed.octets().to_vec(),
            more_digest: digests.more.octets().to_vec(),
        };
        frames.push(frame(revision, Some(watch_response::Message::SnapshotEnd(end)), 0));
        Self { sequence: revision.sequence, frames }
    }
}

/// Field `snapshot_chunk` of a response, whole.
pub(super) fn chunk_body<'a>(members: impl Iterator<Item = &'a Member>) -> Bytes {
    let chunk = v1::SnapshotChunk { members: members.map(v1::Member::from).collect() };
    let length = chunk.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 8);
    encode_key(SNAPSHOT_CHUNK, WireType::LengthDelimited, &mut bytes);
    encode_varint(u64::try_from(length).expect("a length in memory fits"), &mut bytes);
    chunk.encode(&mut bytes).expect("a buffer that grows takes every message");
    bytes.freeze()
}

/// The fields of one protobuf message may come one after the other: the revision first, then `body_length` octets.
fn chunk_beginning(revision: Revision, body_length: usize) -> Bytes {
    frame(revision, None, body_length)
}

/// "You are current."
pub(super) fn current(revision: Revision, digests: Digests) -> Bytes {
    let current = v1::Current { more_digest: digests.more.octets().to_vec() };
    frame(revision, Some(watch_response::Message::Current(current)), 0)
}

/// "Remove everything."
pub(super) fn clean_up(revision: Revision) -> Bytes {
    frame(revision, Some(watch_response::Message::CleanUp(v1::CleanUp {})), 0)
}

/// What changed.
pub(super) fn delta(delta: &Delta) -> Bytes {
    let changes = delta.changes.iter().map(|(sequence, change)| change_to_wire(*sequence, change)).collect();
    frame(delta.to, Some(watch_response::Message::Delta(v1::Delta { from: Some(delta.from.into()), changes })), 0)
}

/// A message, or the beginning of one that `more` octets follow.
fn frame(revision: Revision, message: Option<watch_response::Message>, more: usize) -> Bytes {
    let response = v1::WatchResponse { revision: Some(revision.into()), message };
    let length = response.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(
        u32::try_from(length + more).expect("bounded: a chunk or a delta of a thousand members is below 1 MiB"),
    );
    response.encode(&mut bytes).expect("a buffer that grows takes every message");
    bytes.freeze()
}
