//! Releases that the plugin could not deliver: one small file each, beside the agent's socket.
//!
//! Written by `weft-cni` when a DEL finds no agent, taken by the agent once it serves its socket. Owns the directory's
//! format; must never decide what a release means. Writing a file comes before the last attempt to reach the agent, and
//! listening comes before the first look into the directory: so no release falls between the two.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::AttachmentKey;

/// The directory of undelivered releases.
#[derive(Debug, Clone)]
pub struct Released {
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tombstone {
    container_id: String,
    interface: String,
}

impl Released {
    /// The directory that belongs to an agent's socket.
    pub fn beside(socket: &Path) -> Self {
        Self { directory: socket.parent().unwrap_or(Path::new("/")).join("released") }
    }

    /// Notes a release, durably as far as the file system is.
    pub fn note(&self, key: &AttachmentKey) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let tombstone = Tombstone { container_id: key.container().to_owned(), interface: key.interface().to_string() };
        let text = serde_json::to_vec(&tombstone)?;
        // Two DELs of one attachment at once must not write into each other's file.
        let temporary = self.directory.join(format!(".{}.{:016x}", key.link(), fastrand::u64(..)));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path(key))?;
        File::open(&self.directory)?.sync_all()
    }

    /// True where the attachment's release is noted.
    pub fn is_noted(&self, key: &AttachmentKey) -> bool {
        self.path(key).exists()
    }

    /// Removes the note; none is a success.
    pub fn clear(&self, key: &AttachmentKey) -> io::Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All that is noted, and a sentence for each file that cannot be read.
    pub fn list(&self) -> (Vec<AttachmentKey>, Vec<String>) {
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (keys, problems),
            Err(error) => return (keys, vec![format!("{}: {error}", self.directory.display())]),
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) {
                continue;
            }
            match read(&path) {
                Ok(key) => keys.push(key),
                Err(why) => problems.push(format!("{}: {why}; look at it and remove it", path.display())),
            }
        }
        (keys, problems)
    }

    fn path(&self, key: &AttachmentKey) -> PathBuf {
        self.directory.join(key.link().as_str())
    }
}

fn read(path: &Path) -> Result<AttachmentKey, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    let tombstone: Tombstone = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    AttachmentKey::new(&tombstone.container_id, &tombstone.interface).map_err(|error| error.to_string())
}
