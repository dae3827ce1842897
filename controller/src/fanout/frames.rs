//! Messages as the bytes that go over the wire.
//!
//! Owns the gRPC framing: a zero byte for "not compressed", the length in four octets of network byte order, the
//! message. Must never be called once per stream for the same content.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use weft_core::{
    membership::{self, Delta, Digest},
    types::Revision,
};
use weft_proto::{
    convert::change_to_wire,
    v1::{self, watch_response},
};

/// Members in one chunk: about 10 KiB.
const CHUNK: usize = 100;

/// A membership, encoded once for all who need it.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The sequence it gives.
    pub(crate) sequence: u64,
    /// Its chunks and its end, a gRPC message each.
    pub(crate) frames: Vec<Bytes>,
}

impl Snapshot {
    pub(super) fn encode(snapshot: &membership::Snapshot, digest: Digest) -> Self {
        let chunks = snapshot.members.chunks(CHUNK).map(|members| {
            let members = members.iter().map(|member| v1::Member::from(member.as_ref())).collect();
            watch_response::Message::SnapshotChunk(v1::SnapshotChunk { members })
        });
        let end = watch_response::Message::SnapshotEnd(v1::SnapshotEnd {
            settings: Some(snapshot.settings.as_ref().into()),
            member_count: u32::try_from(snapshot.members.len()).unwrap_or(u32::MAX),
            digest: digest.octets().to_vec(),
        });
        let frames = chunks.chain([end]).map(|message| frame(snapshot.revision, message)).collect();
        Self { sequence: snapshot.revision.sequence, frames }
    }
}

/// "You are current."
pub(super) fn current(revision: Revision) -> Bytes {
    frame(revision, watch_response::Message::Current(v1::Current {}))
}

/// What changed.
pub(super) fn delta(delta: &Delta) -> Bytes {
    let changes = delta.changes.iter().map(|(sequence, change)| change_to_wire(*sequence, change)).collect();
    frame(delta.to, watch_response::Message::Delta(v1::Delta { from: Some(delta.from.into()), changes }))
}

fn frame(revision: Revision, message: watch_response::Message) -> Bytes {
    let response = v1::WatchResponse { revision: Some(revision.into()), message: Some(message) };
    let length = response.encoded_len();
    let mut bytes = BytesMut::with_capacity(length + 5);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("bounded: a chunk or a delta of a thousand members is below 1 MiB"));
    response.encode(&mut bytes).expect("a buffer that grows takes every message");
    bytes.freeze()
}
