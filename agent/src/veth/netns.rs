//! Network namespaces: opened by path, entered by a thread of its own.
//!
//! Must never change the namespace of the calling thread: what runs after would run in the pod.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    fs::{FsWord, fstatfs},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// `NSFS_MAGIC` (include/uapi/linux/magic.h): the file system of namespaces.
pub(crate) const NSFS: FsWord = 0x6e73_6673;

/// Why a namespace is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetnsError {
    /// Nothing is at its path.
    #[error("{} does not exist: the container is gone", .0.display())]
    Gone(PathBuf),
    /// What is at its path is no pod's namespace.
    #[error("{} {why}", path.display())]
    Unusable { path: PathBuf, why: &'static str, source: Option<io::Error> },
    /// No thread gets in.
    #[error("network namespace {} cannot be entered", path.display())]
    Closed { path: PathBuf, source: io::Error },
    /// A fault of ours.
    #[error("the thread inside the pod's namespace panicked: please report this")]
    Panicked,
}

/// A pod's network namespace.
#[derive(Debug)]
pub(crate) struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> Result<Self, NetnsError> {
        let unusable = |why, source| NetnsError::Unusable { path: path.to_owned(), why, source };
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NetnsError::Gone(path.to_owned()),
            _ => unusable("cannot be opened", Some(error)),
        })?;
        let kind = fstatfs(&file).map_err(|error| unusable("cannot be examined", Some(error.into())))?.f_type;
        if kind != NSFS {
            return Err(unusable("is not a network namespace: is it mounted in this mount namespace?", None));
        }
        if is_own(&file).map_err(|error| unusable("cannot be examined", Some(error)))? {
            return Err(unusable("is the host's own namespace: a pod on the host's network has no CNI", None));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// The path as the runtime gave it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor, for `IFLA_NET_NS_FD`.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `work` on a thread inside the namespace.
    pub(crate) fn inside<T, E>(&self, work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
    where
        T: Send,
        E: From<NetnsError> + Send,
    {
        let enter = || {
            let entered = move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network));
            entered.map_err(|error| NetnsError::Closed { path: self.path.clone(), source: error.into() })?;
            work()
        };
        thread::scope(|scope| scope.spawn(enter).join().unwrap_or_else(|_| Err(NetnsError::Panicked.into())))
    }
}

fn is_own(file: &File) -> io::Result<bool> {
    let (theirs, own) = (file.metadata()?, fs::metadata("/proc/thread-self/ns/net")?);
    Ok((theirs.dev(), theirs.ino()) == (own.dev(), own.ino()))
}
