//! Files that are replaced as a whole.
//!
//! Owns the order of write, sync and rename: after a crash either the old or the new content is there. Must never know what
//! the content means. One at a time may replace a file.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

/// Puts `bytes` in the place of a file, by way of one with the extension `new` beside it; durable once it returns.
///
/// # Errors
/// Where the directory cannot be written; the old content is still there then.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
