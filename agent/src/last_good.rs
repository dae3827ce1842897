//! The last good membership on disk: what the agent starts from when no controller answers.
//!
//! Owns two files with the same content: `last-good`, and `membership` as version 0.1 wrote it, so that a node which is
//! rolled back boots too. Must never hand out a membership whose checksum or content is wrong: such a file is set aside
//! and said so.

mod form;
mod saver;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use weft_core::membership::Snapshot;

use self::form::Form;
pub(crate) use self::saver::Saver;
use crate::durable;

/// Where the last good membership is kept.
#[derive(Debug, Clone)]
pub struct LastGood {
    state_dir: PathBuf,
}

/// A membership from the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The membership.
    pub snapshot: Snapshot,
    /// False where version 0.1 wrote it, which keeps nothing that later versions say.
    pub is_whole: bool,
}

impl LastGood {
    /// Below the agent's state directory.
    pub fn in_dir(state_dir: &Path) -> Self {
        Self { state_dir: state_dir.to_owned() }
    }

    /// The newest there is; none where there is none. A broken file is renamed, and a sentence says why.
    pub fn load(&self) -> (Option<Kept>, Vec<String>) {
        let mut problems = Vec::new();
        let mut read = |form| {
            self.read(form).unwrap_or_else(|problem| {
                problems.push(problem);
                None
            })
        };
        let [new, old] = Form::ALL.map(|form| {
            let snapshot = read(form)?;
            Some(Kept { snapshot, is_whole: form.is_whole() })
        });
        // Version 0.1 may have run since the newer file was written.
        let is_newer = |old: &Kept| new.as_ref().is_none_or(|new| old.snapshot.revision > new.snapshot.revision);
        (old.filter(is_newer).or(new), problems)
    }

    fn read(&self, form: Form) -> Result<Option<Snapshot>, String> {
        let path = self.path(form);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        form.decode(&bytes).map(Some).map_err(|reason| {
            let aside = path.with_extension("broken");
            let kept = match fs::rename(&path, &aside) {
                Ok(()) => format!("it was set aside as {}", aside.display()),
                Err(error) => format!("it could not be set aside: {error}"),
            };
            format!("{}: {reason}; {kept} and the membership will come from the controller", path.display())
        })
    }

    /// Replaces it, durably: after a crash of either file the old or the new one is there, whole.
    pub fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        Form::ALL.into_iter().try_for_each(|form| durable::replace(&self.path(form), &form.encode(snapshot)))
    }

    /// Removes it and what was set aside as broken, for a node that Weft leaves.
    pub fn remove(&self) -> io::Result<()> {
        for path in Form::ALL.map(|form| self.path(form)) {
            durable::sweep(&path)?;
            // The last is what version 0.1 leaves when it is killed.
            for path in [path.clone(), path.with_extension("broken"), path.with_extension("new")] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Removes what a crash left of a writing. Only for the one agent that writes here.
    fn sweep(&self) -> io::Result<()> {
        Form::ALL.into_iter().try_for_each(|form| durable::sweep(&self.path(form)))
    }

    fn path(&self, form: Form) -> PathBuf {
        self.state_dir.join(form.file())
    }
}

#[cfg(test)]
mod tests;
