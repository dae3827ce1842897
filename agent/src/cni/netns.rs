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

use super::{CniError, Code};

/// `NSFS_MAGIC` (include/uapi/linux/magic.h): the file system of namespaces.
pub(crate) const NSFS: FsWord = 0x6e73_6673;

/// A pod's network namespace.
#[derive(Debug)]
pub(crate) struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// Opens CNI_NETNS; code 3 where it does not exist, so that the runtime knows there is nothing to clean up.
    pub(crate) fn open(path: &Path) -> Result<Self, CniError> {
        let shown = path.display();
        let invalid = |why: String| CniError::new(Code::InvalidEnvironment, format!("CNI_NETNS {shown} {why}"));
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CniError::new(
                Code::UnknownContainer,
                format!("CNI_NETNS {shown} does not exist: the container is gone"),
            ),
            _ => invalid("cannot be opened".to_owned()).because(error),
        })?;
        let kind = fstatfs(&file).map_err(|error| invalid("cannot be examined".to_owned()).because(error))?.f_type;
        if kind != NSFS {
            return Err(invalid("is not a network namespace: is it mounted in this mount namespace?".to_owned()));
        }
        if is_own(&file).map_err(|error| invalid("cannot be examined".to_owned()).because(error))? {
            return Err(invalid("is the host's own namespace: a pod on the host's network has no CNI".to_owned()));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// The path as the runtime gave it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor, for `IFLA_NET_NS_FD`.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `work` on a thread inside the namespace.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T, CniError> + Send) -> Result<T, CniError> {
        let enter = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|error| {
                CniError::new(Code::Kernel, format!("network namespace {} cannot be entered", self.path.display()))
                    .because(error)
            })?;
            work()
        };
        thread::scope(|scope| {
            scope.spawn(enter).join().unwrap_or_else(|_| {
                Err(CniError::new(Code::Kernel, "the thread inside the pod's namespace panicked: please report this"))
            })
        })
    }
}

fn is_own(file: &File) -> io::Result<bool> {
    let (theirs, own) = (file.metadata()?, fs::metadata("/proc/thread-self/ns/net")?);
    Ok((theirs.dev(), theirs.ino()) == (own.dev(), own.ino()))
}
