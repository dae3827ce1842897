//! A disk that fails on demand, and can lose its power.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use super::Disk;

/// How the next write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Well.
    None,
    /// No space: so many bytes get written (cached, not durable), then ENOSPC.
    Full(usize),
    /// All is written but the sync fails, and the bytes are durable all the same.
    SyncFailedKept,
    /// All is written, the sync fails, and the cached bytes are gone (as the page cache drops them).
    SyncFailedLost,
    /// EROFS: nothing happens.
    ReadOnly,
}

#[derive(Debug, Default)]
struct Bytes {
    durable: Vec<u8>,
    /// Written behind `durable`, not synced.
    cached: Vec<u8>,
    aside: Vec<Vec<u8>>,
    faults: VecDeque<Fault>,
    writes: usize,
}

/// Handles on one disk; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Bytes>>);

impl MemoryDisk {
    /// Starts with these bytes.
    pub fn with(bytes: &[u8]) -> Self {
        let disk = Self::default();
        disk.lock().durable = bytes.to_vec();
        disk
    }

    /// The next writes go like this.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Power fails: of what was not synced the first `kept` bytes survive.
    pub fn crash(&self, kept: usize) {
        let mut bytes = self.lock();
        let kept = kept.min(bytes.cached.len());
        let survived = bytes.cached[..kept].to_vec();
        bytes.durable.extend(survived);
        bytes.cached.clear();
        bytes.faults.clear();
    }

    /// Copies kept for people.
    pub fn aside(&self) -> Vec<Vec<u8>> {
        self.lock().aside.clone()
    }

    /// How often something was made durable.
    pub fn writes(&self) -> usize {
        self.lock().writes
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().expect("no test panics while it holds this")
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl Disk for MemoryDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.lock();
        Ok([bytes.durable.as_slice(), &bytes.cached].concat())
    }

    fn append(&mut self, new: &[u8]) -> io::Result<()> {
        let mut bytes = self.lock();
        bytes.writes += 1;
        match bytes.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => {
                let cached = std::mem::take(&mut bytes.cached);
                bytes.durable.extend(cached);
                bytes.durable.extend(new);
                Ok(())
            }
            Fault::Full(written) => {
                bytes.cached.extend(&new[..written.min(new.len())]);
                Err(full())
            }
            Fault::SyncFailedKept => {
                bytes.durable.extend(new);
                Err(io::Error::other("input/output error"))
            }
            Fault::SyncFailedLost => Err(io::Error::other("input/output error")),
            Fault::ReadOnly => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn replace(&mut self, new: &[u8]) -> io::Result<()> {
        let mut bytes = self.lock();
        bytes.writes += 1;
        match bytes.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => {
                bytes.durable = new.to_vec();
                bytes.cached.clear();
                Ok(())
            }
            // The rename happened, the directory's sync failed.
            Fault::SyncFailedKept => {
                bytes.durable = new.to_vec();
                bytes.cached.clear();
                Err(io::Error::other("input/output error"))
            }
            Fault::Full(_) => Err(full()),
            Fault::SyncFailedLost => Err(io::Error::other("input/output error")),
            Fault::ReadOnly => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn set_aside(&mut self, bytes: &[u8]) -> io::Result<String> {
        let mut disk = self.lock();
        disk.aside.push(bytes.to_vec());
        Ok(format!("damaged-{}", disk.aside.len()))
    }

    fn name(&self) -> String {
        "journal in memory".to_owned()
    }
}
