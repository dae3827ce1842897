//! Where controllers are, beside what was configured.
//!
//! Owns reading the list that a leader keeps up to date for agents, and the note on disk of which of them worked last.
//! Must never stand before what was configured, nor fail anything: without either there are fewer doors to try.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tracing::debug;

use crate::durable;

/// More lines are not read: there are a few controllers.
const MOST: usize = 16;

/// The list and the note.
#[derive(Debug)]
pub(super) struct Book {
    list: PathBuf,
    note: PathBuf,
}

impl Book {
    /// With the list at `list`, and the note in the agent's state directory.
    pub(super) fn new(list: PathBuf, state_dir: &Path) -> Self {
        Self { list, note: note_of(state_dir) }
    }

    /// Those of the list, then the one that worked last; anything that is no address is passed over.
    pub(super) fn addresses(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for address in read(&self.list).into_iter().chain(read(&self.note)) {
            let address = address.to_string();
            if !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }

    /// Notes that this one works.
    pub(super) fn worked(&self, controller: &str) {
        let is_noted = read(&self.note).first().is_some_and(|known| known.to_string() == controller);
        if !is_noted && let Err(error) = durable::replace(&self.note, format!("{controller}\n").as_bytes()) {
            debug!("controller {controller} is not noted in {}: {error}", self.note.display());
        }
    }
}

/// Where the note is.
pub(crate) fn note_of(state_dir: &Path) -> PathBuf {
    state_dir.join("controller")
}

/// One address a line; none where there is no such file.
fn read(path: &Path) -> Vec<SocketAddr> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().take(MOST).filter_map(|line| line.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_comes_first_and_what_worked_is_kept() {
        let dir = std::env::temp_dir().join(format!("weft-book-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a writable temp dir");
        let book = Book::new(dir.join("controllers"), &dir);
        assert!(book.addresses().is_empty());
        book.worked("192.0.2.9:7887");
        fs::write(dir.join("controllers"), "192.0.2.1:7887\n\nno address\n[2001:db8::1]:7887\n").expect("write");
        let found = Book::new(dir.join("controllers"), &dir).addresses();
        assert_eq!(found, ["192.0.2.1:7887", "[2001:db8::1]:7887", "192.0.2.9:7887"]);
        book.worked("192.0.2.1:7887");
        assert_eq!(book.addresses(), ["192.0.2.1:7887", "[2001:db8::1]:7887"]);
        fs::remove_dir_all(&dir).expect("just made");
    }
}
