//! Turns: one ADD or DEL of an attachment at a time on this host, however many a runtime starts at once.
//!
//! Owns the lock files beside the agent's socket, one for each attachment that somebody is at. The kernel opens a lock
//! when its holder dies, so that nobody waits for a killed plugin. Must never be waited for without a limit, and must never
//! keep attachments apart from each other: pods start side by side.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};

use super::{CniError, Code};
use crate::veth::AttachmentKey;

/// An ADD that waits for its agent at every step, and then takes all back, takes about as long.
const LONGEST: Duration = Duration::from_secs(60);

/// The turn at one attachment; it ends with this value.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    _lock: File,
}

impl Turn {
    /// Waits until nobody else is at this attachment. Code 5 if there can be no lock file.
    pub(super) fn take(socket: &Path, key: &AttachmentKey) -> Result<Self, CniError> {
        Self::take_within(socket, key, LONGEST)
    }

    fn take_within(socket: &Path, key: &AttachmentKey, limit: Duration) -> Result<Self, CniError> {
        let directory = socket.parent().unwrap_or(Path::new("/")).join("locks");
        let path = directory.join(key.link().as_str());
        let (done, locked) = mpsc::channel();
        let file = path.clone();
        // The kernel's queue has no time limit, so that a thread waits in it; whoever gives up ends, and the thread too.
        thread::spawn(move || done.send(lock(&directory, &file)));
        match locked.recv_timeout(limit) {
            Ok(Ok(lock)) => Ok(Self { path, _lock: lock }),
            Ok(Err(error)) => {
                let text = format!("{key} cannot be locked with {}", path.display());
                Err(CniError::new(Code::Io, text).because(error))
            }
            Err(_) => {
                let text = format!(
                    "another ADD or DEL of {key} has not ended within {} s: find the weft-cni that holds {} and end it",
                    limit.as_secs(),
                    path.display()
                );
                Err(CniError::new(Code::TryAgainLater, text))
            }
        }
    }
}

impl Drop for Turn {
    /// The file goes while it is still locked: whoever waits with it open sees that it is gone, and makes a new one.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks the file of this name, not one that had the name.
fn lock(directory: &Path, path: &Path) -> io::Result<File> {
    loop {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        while let Err(errno) = flock(&file, FlockOperation::LockExclusive) {
            if errno != rustix::io::Errno::INTR {
                return Err(errno.into());
            }
        }
        let named = fs::metadata(path).map(|found| found.ino());
        if named.is_ok_and(|inode| file.metadata().is_ok_and(|own| own.ino() == inode)) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Beside(PathBuf);

    impl Beside {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("weft-turn-{name}-{}", std::process::id()));
            fs::create_dir_all(&directory).expect("a directory");
            Self(directory)
        }

        fn take(&self, container: &str, limit: Duration) -> Result<Turn, CniError> {
            let key = AttachmentKey::new(container, "eth0").expect("valid");
            Turn::take_within(&self.0.join("agent.sock"), &key, limit)
        }
    }

    impl Drop for Beside {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn one_at_a_time_and_nothing_stays() {
        let beside = Beside::new("one");
        let inside = std::sync::atomic::AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _turn = beside.take("a", LONGEST).expect("a turn");
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two at once");
                        thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(beside.0.join("locks")).expect("there").count(), 0, "lock files stay");
    }

    #[test]
    fn another_attachment_does_not_wait() {
        let beside = Beside::new("other");
        let _held = beside.take("a", LONGEST).expect("a turn");
        let _other = beside.take("b", LONGEST).expect("a turn of its own");
    }

    #[test]
    fn a_holder_that_never_ends_is_named() {
        let beside = Beside::new("stuck");
        let _held = beside.take("a", LONGEST).expect("a turn");
        let error = beside.take("a", Duration::ZERO).expect_err("it is held");
        assert_eq!(error.code, Code::TryAgainLater);
        assert!(
            error.message.contains("container a interface eth0") && error.message.contains("locks/wpod"),
            "{error}"
        );
    }
}
