//! The files' octets: a mark with the version, a SHA-256 over the rest, and messages of `weft.stored.v1`.
//!
//! Owns both forms. That of version 0.1 must never change: it is what an agent that was rolled back reads. It is written for
//! one release.

use std::sync::Arc;

use prost::{DecodeError, Message};
use sha2::{Digest as _, Sha256};
use weft_core::{
    membership::{Member, More, Snapshot},
    settings::Settings,
};
use weft_proto::stored::v1;

const HEADER: usize = 8 + 32;

/// A version of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As this version keeps it.
    Present,
    /// As version 0.1 does.
    Old,
}

impl Form {
    pub(super) const ALL: [Self; 2] = [Self::Present, Self::Old];

    /// The file's name in the state directory.
    pub(super) const fn file(self) -> &'static str {
        match self {
            Self::Present => "last-good",
            Self::Old => "membership",
        }
    }

    /// True where it holds what later versions say, too.
    pub(super) const fn is_whole(self) -> bool {
        matches!(self, Self::Present)
    }

    const fn mark(self) -> &'static [u8; 8] {
        match self {
            Self::Present => b"WEFTMEM2",
            Self::Old => b"WEFTMEM1",
        }
    }

    pub(super) fn encode(self, snapshot: &Snapshot) -> Vec<u8> {
        let members = snapshot.members.iter().map(|member| self.member(member)).collect();
        let end = v1::End {
            settings: Some(self.settings(&snapshot.settings)),
            member_count: u32::try_from(snapshot.members.len()).expect("a cluster has fewer than 2^32 nodes"),
        };
        let mut body = v1::Revision::from(snapshot.revision).encode_length_delimited_to_vec();
        body.extend(v1::Members { members }.encode_length_delimited_to_vec());
        body.extend(end.encode_length_delimited_to_vec());
        let mut bytes = self.mark().to_vec();
        bytes.extend(Sha256::digest(&body));
        bytes.extend(body);
        bytes
    }

    fn member(self, member: &Member) -> v1::Member {
        let mut stored = v1::Member::from(member);
        if self == Self::Old {
            stored.more.clear();
        }
        stored
    }

    fn settings(self, settings: &Settings) -> v1::Settings {
        let more = if self.is_whole() { settings.more.clone() } else { More::default() };
        v1::Settings::from(&Settings { more, ..settings.clone() })
    }

    pub(super) fn decode(self, bytes: &[u8]) -> Result<Snapshot, String> {
        let (head, mut body) = bytes.split_at_checked(HEADER).ok_or("is too short")?;
        if !head.starts_with(self.mark()) {
            return Err("is not a membership file that this version knows".to_owned());
        }
        if Sha256::digest(body).as_slice() != &head[self.mark().len()..] {
            return Err("has a wrong checksum (cut short or altered)".to_owned());
        }
        let unreadable = |error: DecodeError| format!("cannot be decoded: {error}");
        let revision = v1::Revision::decode_length_delimited(&mut body).map_err(unreadable)?;
        let members = v1::Members::decode_length_delimited(&mut body).map_err(unreadable)?.members;
        let end = v1::End::decode_length_delimited(&mut body).map_err(unreadable)?;
        if usize::try_from(end.member_count) != Ok(members.len()) {
            return Err(format!("has {} members instead of {}", members.len(), end.member_count));
        }
        let member = |stored: v1::Member| Member::try_from(stored).map(Arc::new).map_err(|error| error.to_string());
        let members = members.into_iter().map(member).collect::<Result<_, _>>()?;
        let settings = Settings::try_from(end.settings.ok_or("has no settings")?).map_err(|error| error.to_string())?;
        Ok(Snapshot { revision: revision.into(), settings: Arc::new(settings), members })
    }
}
