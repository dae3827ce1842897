//! Files that are replaced whole.
//!
//! Owns that after a crash the old or the new is there, and that no two writings meet: each has a file of its own, which
//! takes the target's place only once it is complete and durable. Must never write into the target itself.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::fault;

/// Puts `bytes` in the place of `target`, durably and readable by the owner only.
pub(crate) fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let (directory, prefix) = place(target)?;
    let draft = directory.join(format!("{prefix}{:016x}.new", fastrand::u64(..)));
    let step = format!("half{prefix}");
    let written = write(&draft, bytes, &step).and_then(|()| fs::rename(&draft, target));
    if written.is_err() {
        // What is left of it would only take space, which may be what was missing.
        let _ = fs::remove_file(&draft);
    }
    written?;
    File::open(directory)?.sync_all()
}

/// Removes `target`; it is no error if there is none.
pub(crate) fn remove(target: &Path) -> io::Result<()> {
    match fs::remove_file(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what writings left that a crash cut short. Only for whoever is known to be the only writer of `target`.
pub(crate) fn sweep(target: &Path) -> io::Result<()> {
    let (directory, prefix) = place(target)?;
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(".new") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write(draft: &Path, bytes: &[u8], step: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    file.write_all(half)?;
    fault::point(step);
    file.write_all(rest)?;
    file.sync_all()
}

/// The target's directory, and how the names of its drafts begin.
fn place(target: &Path) -> io::Result<(PathBuf, String)> {
    let nameless = || io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", target.display()));
    let (parent, name) = target.parent().zip(target.file_name()).ok_or_else(nameless)?;
    let directory = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    Ok((directory.to_owned(), format!(".{}.", name.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_at_once_never_leave_a_mixture_and_a_sweep_takes_what_a_crash_left() {
        let directory = std::env::temp_dir().join(format!("weft-durable-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a writable temp dir");
        let target = directory.join("file");
        std::thread::scope(|scope| {
            for letter in [b'a', b'b', b'c'] {
                let target = &target;
                scope.spawn(move || (0..20).for_each(|_| replace(target, &[letter; 50_000]).expect("written")));
            }
        });
        let bytes = fs::read(&target).expect("written");
        assert!(bytes.len() == 50_000 && bytes.iter().all(|byte| *byte == bytes[0]), "two writings met");
        fs::write(directory.join(".file.0123456789abcdef.new"), "half").expect("writable");
        sweep(&target).expect("removable");
        assert_eq!(fs::read_dir(&directory).expect("readable").count(), 1, "something is left");
        fs::remove_dir_all(&directory).expect("just made");
    }
}
