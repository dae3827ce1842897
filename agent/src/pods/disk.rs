//! The journal's disk: durable appends, atomic replacement.
//!
//! The trait is the edge; [`DirDisk`] is the real one and the fake of the tests fails on demand. Must never know what
//! the bytes mean.

#[cfg(test)]
mod memory;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

#[cfg(test)]
pub use memory::{Fault, MemoryDisk};

/// Where a journal is kept. After an error of [`Disk::append`] or [`Disk::replace`] nothing is known of the bytes: only
/// a [`Disk::replace`] makes them certain again.
pub trait Disk: Send {
    /// All bytes; none where there is no journal yet.
    fn read(&mut self) -> io::Result<Vec<u8>>;

    /// Adds bytes at the end; they are durable once it returns.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Puts `bytes` in the place of all there is, atomically; durable once it returns.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Keeps a copy of `bytes` for people, and says where.
    fn set_aside(&mut self, bytes: &[u8]) -> io::Result<String>;

    /// What it is called in messages.
    fn name(&self) -> String;
}

/// A directory of its own: `journal`, `journal.new` while it is replaced, `lock`, and `damaged-N`.
#[derive(Debug)]
pub struct DirDisk {
    directory: PathBuf,
    /// The journal, opened for appending.
    journal: Option<File>,
    /// Held for as long as this lives: two agents with one journal would hand out addresses twice.
    _lock: File,
}

impl DirDisk {
    /// Creates the directory (mode 0700) where it is missing, and locks it.
    pub fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join("lock");
        let lock = match OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path) {
            // On a file system that became read-only the allocations can at least be read.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(&path),
            other => other,
        }?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
            let text = "it is locked: another weft-agent runs with this state directory, stop that one first";
            io::Error::new(io::Error::from(errno).kind(), text)
        })?;
        if let Some(parent) = directory.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { directory: directory.to_owned(), journal: None, _lock: lock })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

impl Disk for DirDisk {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        match fs::read(self.path("journal")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.journal.is_none() {
            // Not created here: a file whose directory entry is not durable would make durable lines vanish.
            self.journal = Some(OpenOptions::new().append(true).open(self.path("journal"))?);
        }
        let journal = self.journal.as_mut().expect("opened above");
        journal.write_all(bytes)?;
        journal.sync_data()
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.journal = None;
        let new = self.path("journal.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.path("journal"))?;
        self.sync_directory()
    }

    fn set_aside(&mut self, bytes: &[u8]) -> io::Result<String> {
        for number in 1..=1000 {
            let path = self.path(&format!("damaged-{number}"));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    file.write_all(bytes)?;
                    file.sync_all()?;
                    self.sync_directory()?;
                    return Ok(path.display().to_string());
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("there are 1000 files named damaged-N already: look at them and remove them"))
    }

    fn name(&self) -> String {
        self.path("journal").display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every disk must do. `reopen` gives a new handle on the same disk, as after a restart.
    fn contract<D: Disk>(mut disk: D, reopen: impl Fn(D) -> D) {
        assert_eq!(disk.read().expect("read"), b"", "a new disk is empty");
        disk.replace(b"one\n").expect("replace");
        disk.append(b"two\n").expect("append");
        disk.append(b"three\n").expect("append");
        assert_eq!(disk.read().expect("read"), b"one\ntwo\nthree\n");
        let mut disk = reopen(disk);
        assert_eq!(disk.read().expect("read"), b"one\ntwo\nthree\n", "durable");
        disk.append(b"four\n").expect("append after a restart");
        disk.replace(b"five\n").expect("replace");
        disk.append(b"six\n").expect("append goes to the new file");
        assert_eq!(disk.read().expect("read"), b"five\nsix\n");
        let (first, second) = (disk.set_aside(b"x").expect("aside"), disk.set_aside(b"y").expect("aside"));
        assert_ne!(first, second, "the first copy was overwritten");
        assert_eq!(disk.read().expect("read"), b"five\nsix\n");
    }

    #[test]
    fn the_fake_keeps_the_contract() {
        let disk = MemoryDisk::default();
        let again = disk.clone();
        contract(disk, move |_| {
            again.crash(0);
            again.clone()
        });
    }

    #[test]
    fn a_directory_keeps_the_contract() {
        let directory = std::env::temp_dir().join(format!("weft-disk-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let disk = DirDisk::open(&directory).expect("open");
        let error = DirDisk::open(&directory).expect_err("locked").to_string();
        assert!(error.contains("another weft-agent"), "{error}");
        contract(disk, |disk| {
            drop(disk);
            DirDisk::open(&directory).expect("open again")
        });
        fs::remove_dir_all(&directory).expect("remove");
    }
}
