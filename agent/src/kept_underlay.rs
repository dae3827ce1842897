//! The underlay in use on disk: the link and the addresses that the other nodes know this one by.
//!
//! Owns one file of one line, `weft-underlay-1 LINK ADDRESS...`, replaced atomically. Must never fail a start: what cannot be
//! read is as good as absent, and routes decide.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;
use weft_core::types::{LinkName, PerFamily, UnderlayAddress};

use crate::{durable, kernel::InUse};

const VERSION: &str = "weft-underlay-1";

/// Where it is kept.
#[derive(Debug, Clone)]
pub struct KeptUnderlay {
    path: PathBuf,
}

impl KeptUnderlay {
    /// Below the agent's state directory.
    pub fn in_dir(state_dir: &Path) -> Self {
        Self { path: state_dir.join("underlay") }
    }

    /// What was kept; none where nothing was, or nothing that can be read.
    pub(crate) fn load(&self) -> Option<InUse> {
        let path = self.path.display();
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                warn!("{path} cannot be read: {error}; routes decide which link carries the tunnel");
                return None;
            }
        };
        let in_use = parse(&text);
        if in_use.is_none() {
            warn!("{path} is not what this version writes: routes decide which link carries the tunnel");
        }
        in_use
    }

    /// Replaces it, durably.
    pub(crate) fn save(&self, in_use: &InUse) -> io::Result<()> {
        durable::replace(&self.path, line(in_use).as_bytes())
    }

    /// Removes it, for a node that Weft leaves.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn line(in_use: &InUse) -> String {
    let addresses = in_use.addresses.iter().map(|address| format!(" {address}")).collect::<String>();
    format!("{VERSION} {}{addresses}\n", in_use.link)
}

fn parse(text: &str) -> Option<InUse> {
    let mut words = text.strip_suffix('\n')?.split(' ');
    if words.next()? != VERSION {
        return None;
    }
    let link = LinkName::new(words.next()?).ok()?;
    let mut addresses = PerFamily::default();
    for word in words {
        let address: UnderlayAddress = word.parse().ok()?;
        *addresses.get_mut(address.family()) = Some(address);
    }
    Some(InUse { link, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_again_and_anything_else_is_nothing() {
        let golden = "weft-underlay-1 eth0 192.0.2.1/24 2001:db8::1/64\n";
        let in_use = parse(golden).expect("as written");
        assert_eq!((in_use.link.as_str(), line(&in_use).as_str()), ("eth0", golden));
        for wrong in ["", "weft-underlay-1 eth0", "weft-underlay-2 eth0\n", "weft-underlay-1 eth0 nowhere\n", "\n"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
