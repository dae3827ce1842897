//! The records of the store.
//!
//! Owns their shape. Must never hold a secret in the clear: a token is kept as the hash of its secret.

use std::{fmt, str::FromStr};

use weft_core::{
    membership::Member,
    types::{NodeName, PodCidr},
};

/// A node that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// What the other nodes need to know of it.
    pub member: Member,
    /// Version its agent reported last; empty until then.
    pub agent_version: String,
    /// The newest kind of settings that its agent could follow when it reported last; 0 is version 0.1.
    pub generation: u32,
    /// When it joined first, Unix time in milliseconds.
    pub joined_unix_ms: i64,
    /// UID of its Node object in this life; none outside of Kubernetes.
    pub node_uid: Option<String>,
}

impl NodeRecord {
    /// True once its agent has reported facts: only then is there anything that other nodes could program.
    pub const fn has_reported(&self) -> bool {
        self.member.underlay_mtu != 0
    }
}

/// Public name of a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 8]);

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl FromStr for TokenId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return Err(());
        }
        u64::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes())).map_err(|_| ())
    }
}

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its public name.
    pub id: TokenId,
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// The only node that may join with it.
    pub node: NodeName,
    /// When it ends, Unix time in seconds.
    pub expires_unix: i64,
    /// What its first use bound it to.
    pub bound: Option<Binding>,
}

/// The use of a join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER) it was used with: only that key may repeat.
    pub key_hash: [u8; 32],
    /// The life of the node that began with it.
    pub incarnation: u64,
}

/// A pod CIDR of a departed node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The pod CIDR.
    pub cidr: PodCidr,
    /// Who had it.
    pub owner: NodeName,
}

/// A pod CIDR that was claimed for a node which is no member, or whose record cannot be read: nobody else may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The pod CIDR.
    pub cidr: PodCidr,
    /// Whose it is to be.
    pub owner: NodeName,
}

/// A life of a node name that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The name.
    pub node: NodeName,
    /// Which life ended: the next one is higher.
    pub incarnation: u64,
    /// When it ended, Unix time in seconds; 0 where version 0.1 wrote it.
    pub ended_unix: i64,
}
