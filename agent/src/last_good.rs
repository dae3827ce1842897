//! The last good membership on disk: what the agent starts from when no controller answers.
//!
//! Owns one file: a header with version, length and SHA-256, then a `weft.v1` snapshot. It is replaced atomically.
//! Must never hand out a membership whose checksum or content is wrong: such a file is set aside and said so.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use sha2::{Digest as _, Sha256};
use weft_core::membership::Snapshot;
use weft_proto::{convert::SnapshotBuilder, v1};

use crate::durable;

const MAGIC: &[u8; 8] = b"WEFTMEM1";
const HEADER: usize = MAGIC.len() + 32;

/// Where the last good membership is kept.
#[derive(Debug, Clone)]
pub struct LastGood {
    path: PathBuf,
}

impl LastGood {
    /// Below the agent's state directory.
    pub fn in_dir(state_dir: &Path) -> Self {
        Self { path: state_dir.join("membership") }
    }

    /// Reads it. None where there is none; a broken file is renamed to `membership.broken` and the error says why.
    pub fn load(&self) -> io::Result<Option<Snapshot>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match decode(&bytes) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(reason) => {
                let aside = self.path.with_extension("broken");
                fs::rename(&self.path, &aside)?;
                let message = format!(
                    "{}: {reason}; it was set aside as {} and the membership will come from the controller",
                    self.path.display(),
                    aside.display()
                );
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
        }
    }

    /// Replaces it, durably: after a crash either the old or the new one is there, whole.
    pub fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        durable::replace(&self.path, &encode(snapshot))
    }

    /// Removes it and what was set aside as broken, for a node that Weft leaves.
    pub fn remove(&self) -> io::Result<()> {
        for path in [self.path.clone(), self.path.with_extension("broken")] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The file reuses two messages of the wire: the chunk with all members, length-delimited, then the end.
fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let members = snapshot.members.iter().map(|member| member.as_ref().into()).collect();
    let end = v1::SnapshotEnd {
        settings: Some(snapshot.settings.as_ref().into()),
        member_count: u32::try_from(snapshot.members.len()).expect("a cluster has fewer than 2^32 nodes"),
        ..Default::default()
    };
    let mut body = v1::Revision::from(snapshot.revision).encode_length_delimited_to_vec();
    body.extend(v1::SnapshotChunk { members }.encode_length_delimited_to_vec());
    body.extend(end.encode_length_delimited_to_vec());
    let mut bytes = MAGIC.to_vec();
    bytes.extend(Sha256::digest(&body));
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Snapshot, String> {
    if bytes.len() < HEADER || &bytes[..MAGIC.len()] != MAGIC {
        return Err("is not a membership file of this version".to_owned());
    }
    let (head, mut body) = bytes.split_at(HEADER);
    if Sha256::digest(body).as_slice() != &head[MAGIC.len()..] {
        return Err("has a wrong checksum (cut short or altered)".to_owned());
    }
    let unreadable = |error: prost::DecodeError| format!("cannot be decoded: {error}");
    let revision = v1::Revision::decode_length_delimited(&mut body).map_err(unreadable)?;
    let chunk = v1::SnapshotChunk::decode_length_delimited(&mut body).map_err(unreadable)?;
    let end = v1::SnapshotEnd::decode_length_delimited(&mut body).map_err(unreadable)?;
    let mut builder = SnapshotBuilder::default();
    builder.chunk(revision.into(), chunk).map_err(|error| error.to_string())?;
    builder.end(revision.into(), end).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_core::{
        membership::{Member, More},
        settings::{Mode, Settings},
        types::{Family, Mac, NodeName, PerFamily, Revision, Vni},
    };

    use super::*;

    fn snapshot() -> Snapshot {
        let member = |name: &str| {
            Arc::new(Member {
                name: NodeName::new(name).expect("valid"),
                incarnation: 1,
                pod_cidrs: PerFamily { v4: Some("10.244.1.0/24".parse().expect("valid")), v6: None },
                mac: Mac::local([1; 6]),
                underlay: PerFamily { v4: Some("192.0.2.1/24".parse().expect("valid")), v6: None },
                underlay_mtu: 1500,
                more: More::default(),
            })
        };
        let settings = Settings {
            pools: vec!["10.244.0.0/16".parse().expect("valid")],
            mode: Mode::CrossSubnet,
            vni: Vni::new(87).expect("valid"),
            port: 4789,
            outer: Family::V4,
            more: More::default(),
        };
        Snapshot {
            revision: Revision::new(5, 9),
            settings: Arc::new(settings),
            members: vec![member("a"), member("b")],
        }
    }

    fn place(name: &str) -> LastGood {
        let dir = std::env::temp_dir().join(format!("weft-last-good-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a writable temp dir");
        LastGood::in_dir(&dir)
    }

    #[test]
    fn survives_the_disk() {
        let store = place("round");
        assert_eq!(store.load().expect("no file is fine"), None);
        store.save(&snapshot()).expect("writable");
        assert_eq!(store.load().expect("readable"), Some(snapshot()));
        fs::remove_dir_all(store.path.parent().expect("a dir")).expect("just made");
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let bytes = encode(&snapshot());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length} bytes went unseen");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(decode(&flipped).is_err(), "a flipped bit in byte {at} went unseen");
        }
    }

    #[test]
    fn a_broken_file_is_set_aside_not_lost() {
        let store = place("broken");
        fs::write(&store.path, b"WEFTMEM1garbage").expect("writable");
        let error = store.load().expect_err("broken").to_string();
        assert!(error.contains("membership.broken"), "{error}");
        assert!(store.path.with_extension("broken").exists());
        assert_eq!(store.load().expect("now there is none"), None);
        fs::remove_dir_all(store.path.parent().expect("a dir")).expect("just made");
    }
}
