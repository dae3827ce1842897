//! Programs of version 0.1 among those of this one.
//!
//! Owns what the old ones do not see: the octets beyond what they know, and the digest of these. Must never be kinder than a
//! decoder of that version, which skips them.

use std::sync::Arc;

use weft_core::membership::{Digests, Member, More, Snapshot, Told};
use weft_proto::v1::{self, watch_response::Message};

/// The message as a program of 0.1 sends it, or reads it.
pub(super) fn to_0_1(message: &mut v1::WatchResponse) {
    match &mut message.message {
        Some(Message::Current(current)) => current.more_digest.clear(),
        Some(Message::SnapshotChunk(chunk)) => chunk.members.iter_mut().for_each(|member| member.more.clear()),
        Some(Message::SnapshotEnd(end)) => {
            end.more_digest.clear();
            end.settings.iter_mut().for_each(|settings| settings.more.clear());
        }
        Some(Message::Delta(delta)) => delta.changes.iter_mut().for_each(plain_change),
        Some(Message::CleanUp(_)) | None => {}
    }
}

fn plain_change(change: &mut v1::Change) {
    match &mut change.change {
        Some(v1::change::Change::Upsert(member)) => member.more.clear(),
        Some(v1::change::Change::Settings(settings)) => settings.more.clear(),
        Some(v1::change::Change::Departed(_)) | None => {}
    }
}

/// What a disk of 0.1 keeps of a membership.
pub(super) fn plain(snapshot: &Snapshot) -> Snapshot {
    let plain = |member: &Arc<Member>| Arc::new(Member { more: More::default(), ..Member::clone(member) });
    let mut settings = snapshot.settings.as_ref().clone();
    settings.more = More::default();
    let members = snapshot.members.iter().map(plain).collect();
    Snapshot { revision: snapshot.revision, settings: Arc::new(settings), members }
}

/// The digests as a program says them.
pub(super) fn told(digests: Digests, is_old: bool) -> Told {
    Told { typed: digests.typed, more: (!is_old).then_some(digests.more) }
}
