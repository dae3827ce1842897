//! The mark beside the authority that its store was made.
//!
//! Owns refusing to begin an empty cluster in the place of one that lost its store: its nodes would be refused, and their
//! pod CIDRs given to others while pods still have them. Must never be the reason that a whole store is not opened.

use std::{fs, io::Write as _, path::Path};

use super::{RedbStore, StoreError, redb::display};

/// Beside ca.key.
const MARKER: &str = "store-made";

impl RedbStore {
    /// Opens the store at `path`, or creates it where the authority in `authority_dir` never had one. Blocks for the time
    /// of a full read.
    pub(crate) fn open_of(authority_dir: &Path, path: &Path) -> Result<Self, StoreError> {
        let marker = authority_dir.join(MARKER);
        let is_there = |path: &Path, operation| {
            path.try_exists().map_err(|source| StoreError::Io { store: display(path), operation, source })
        };
        let is_marked = is_there(&marker, "look for the mark of")?;
        if is_marked && !is_there(path, "look for")? {
            return Err(StoreError::Lost { store: display(path), marker: marker.display().to_string() });
        }
        let store = Self::open(path)?;
        if !is_marked {
            mark(&marker, path);
        }
        Ok(store)
    }
}

/// Written once the store exists: the other way round, a crash between the two would leave a cluster that never starts.
fn mark(marker: &Path, store: &Path) {
    let text = format!(
        "The store of this authority was made: {}\nWithout it weft-controller does not start while this file is here.\n",
        store.display()
    );
    let written = fs::File::create_new(marker).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    if let Err(error) = written {
        let marker = marker.display();
        tracing::warn!("cannot write {marker}: {error}; should the store get lost, a start will not notice it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_store_is_not_replaced_by_an_empty_one() {
        let dir = std::env::temp_dir().join(format!("weft-marker-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a writable temp dir");
        let path = dir.join("weft.redb");
        drop(RedbStore::open_of(&dir, &path).expect("a new cluster"));
        drop(RedbStore::open_of(&dir, &path).expect("the same again"));

        fs::rename(&path, dir.join("backup")).expect("it was there");
        let error = RedbStore::open_of(&dir, &path).expect_err("it is lost");
        assert!(matches!(error, StoreError::Lost { .. }), "{error}");
        for part in [path.display().to_string(), dir.join(MARKER).display().to_string(), "backup".to_owned()] {
            assert!(error.to_string().contains(&part), "{part} is missing in: {error}");
        }
        assert!(!path.exists(), "a refusal creates nothing");

        fs::rename(dir.join("backup"), &path).expect("it was there");
        drop(RedbStore::open_of(&dir, &path).expect("restored"));
        fs::remove_file(&path).expect("it was there");
        fs::remove_file(dir.join(MARKER)).expect("it was written");
        drop(RedbStore::open_of(&dir, &path).expect("an empty cluster on purpose"));
        fs::remove_dir_all(&dir).expect("just written");
    }
}
