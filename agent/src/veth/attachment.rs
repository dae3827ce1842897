//! The identity of an attachment, and all that is derived from it.
//!
//! Owns the names: whoever knows container id and interface knows the host's end of the veth pair and both MAC
//! addresses, so that a pod can be taken down without the agent and without what an earlier ADD answered.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};
use weft_core::{
    kernel::POD_LINK_PREFIX,
    types::{LinkName, Mac},
};

/// The longest container id taken, in bytes. Runtimes use 64.
const LONGEST_ID: usize = 256;

/// One attachment, the unit of CNI: an interface in a container.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentKey {
    container: Arc<str>,
    interface: LinkName,
}

/// Why two texts name no attachment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a CNI container id.
    #[error(
        "container id {0:?} is not valid: use 1 to 256 characters, first a letter or digit, then letters, \
         digits, '_', '.' or '-'"
    )]
    Container(String),
    /// Not an interface name.
    #[error(transparent)]
    Interface(#[from] weft_core::types::LinkNameError),
}

impl AttachmentKey {
    /// Checks container id (CNI specification 1.1, "Container ID") and interface name.
    pub fn new(container: &str, interface: &str) -> Result<Self, KeyError> {
        if !is_identifier(container) || container.len() > LONGEST_ID {
            return Err(KeyError::Container(container.chars().take(64).collect()));
        }
        Ok(Self { container: container.into(), interface: LinkName::new(interface)? })
    }

    /// The container id.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// The interface's name in the pod.
    pub const fn interface(&self) -> LinkName {
        self.interface
    }

    /// Name of the host's end of the veth pair: the prefix and 44 bits of SHA-256(container id, 0, interface).
    pub fn link(&self) -> LinkName {
        let digest = self.digest("");
        let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        LinkName::new(&format!("{POD_LINK_PREFIX}{}", &hex[..11])).expect("4 + 11 ASCII characters")
    }

    /// MAC of the host's end.
    pub fn host_mac(&self) -> Mac {
        self.mac("host")
    }

    /// MAC of the pod's end.
    pub fn pod_mac(&self) -> Mac {
        self.mac("pod")
    }

    fn mac(&self, end: &str) -> Mac {
        let digest = self.digest(end);
        Mac::local(digest[..6].try_into().expect("SHA-256 has 32 bytes"))
    }

    /// SHA-256 over container id, 0, interface and, for what is not the name, 0 and `purpose`.
    fn digest(&self, purpose: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.container.as_bytes());
        hash.update([0]);
        hash.update(self.interface.as_str().as_bytes());
        if !purpose.is_empty() {
            hash.update([0]);
            hash.update(purpose.as_bytes());
        }
        hash.finalize().into()
    }
}

/// True for CNI's identifiers (container ids, network names): a letter or digit, then letters, digits, `_`, `.`, `-`.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|other| other.is_ascii_alphanumeric() || matches!(other, '_' | '.' | '-'))
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "container {} interface {}", self.container, self.interface)
    }
}

impl fmt::Debug for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container, self.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_as_they_are() {
        // Veths of running pods carry these: another derivation in a later version would lose them.
        let key = AttachmentKey::new("0123456789abcdef", "eth0").expect("valid");
        let expected = Sha256::digest(b"0123456789abcdef\0eth0");
        let hex: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(key.link().as_str(), format!("wpod{}", &hex[..11]));
        assert_ne!(key.host_mac(), key.pod_mac());
        assert_eq!(key.host_mac().octets()[0] & 3, 2, "locally administered, unicast");
    }

    #[test]
    fn refuses_what_no_runtime_sends() {
        for bad in ["", "-a", "a/b", "a b", "..", "ä"] {
            assert!(AttachmentKey::new(bad, "eth0").is_err(), "{bad:?} was accepted");
        }
        assert!(AttachmentKey::new(&"a".repeat(257), "eth0").is_err());
        assert!(AttachmentKey::new("a", "eth/0").is_err());
        assert_ne!(
            AttachmentKey::new("a", "eth0").expect("valid").link(),
            AttachmentKey::new("a", "eth1").expect("valid").link()
        );
    }
}
