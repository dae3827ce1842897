//! Node names.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// A node's name: a DNS-1123 subdomain of at most 253 characters, as Kubernetes wants it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// Why a text is no node name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "node name {0:?} is not a DNS-1123 subdomain: use lower-case letters, digits, '-' and '.', begin and end each label with a letter or digit, at most 253 characters"
)]
pub struct NodeNameError(String);

impl NodeName {
    /// Checks a text.
    pub fn new(text: &str) -> Result<Self, NodeNameError> {
        if text.len() > 253 || !text.split('.').all(is_label) {
            // A hostile name must not fill a log: the message quotes its beginning only.
            return Err(NodeNameError(text.chars().take(64).collect()));
        }
        Ok(Self(text.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(label: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = label.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            alphanumeric(first) && alphanumeric(last) && bytes.iter().all(|&b| b == b'-' || alphanumeric(b))
        }
        _ => false,
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, NodeNameError> {
        Self::new(text)
    }
}

impl Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_dns_subdomains_only() {
        for good in ["a", "node-1", "ip-10-0-0-1.eu.example", "0"] {
            assert!(NodeName::new(good).is_ok(), "{good:?} was refused");
        }
        for bad in ["", "-a", "a-", "A", "a..b", "a b", "a/b", ".a", &"a".repeat(254)] {
            assert!(NodeName::new(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
