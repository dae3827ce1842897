//! The records of the store.
//!
//! Owns their shape. Must never hold a secret in the clear: a token is kept as the hash of its secret.

use std::{fmt, str::FromStr};

use weft_core::{
    encap::Endpoint,
    membership::{Member, More},
    types::{Family, NodeName, PerFamily, PodCidr, UnderlayAddress, UnixMs},
};

/// A node that joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its name.
    pub name: NodeName,
    /// Which life of that name.
    pub incarnation: u64,
    /// At most one pod CIDR per family.
    pub pod_cidrs: PerFamily<Option<PodCidr>>,
    /// What it is in the tunnel.
    pub endpoint: Endpoint,
    /// What later versions say of it.
    pub more: More,
    /// What its agent reported last, once it did: only then is there anything that other nodes could program.
    pub facts: Option<NodeFacts>,
    /// When it joined first.
    pub joined: UnixMs,
    /// UID of its Node object in this life; none outside of Kubernetes.
    pub node_uid: Option<String>,
}

/// What an agent reported of its node, as far as it outlives the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Underlay addresses; one that somebody else proved to have is taken away.
    pub underlay: PerFamily<Option<UnderlayAddress>>,
    /// MTU of the underlay link in bytes.
    pub underlay_mtu: u32,
    /// The agent's version.
    pub agent_version: String,
    /// The newest kind of settings that the agent can follow; 0 is version 0.1.
    pub generation: u32,
}

impl NodeRecord {
    /// What the other nodes need to know of it, once there is anything.
    pub fn member(&self) -> Option<Member> {
        let facts = self.facts.as_ref()?;
        Some(Member {
            name: self.name.clone(),
            incarnation: self.incarnation,
            pod_cidrs: self.pod_cidrs,
            endpoint: self.endpoint,
            underlay: facts.underlay,
            underlay_mtu: facts.underlay_mtu,
            more: self.more.clone(),
        })
    }

    /// Its underlay addresses; none before its agent reported.
    pub fn underlay(&self) -> PerFamily<Option<UnderlayAddress>> {
        self.facts.as_ref().map(|facts| facts.underlay).unwrap_or_default()
    }

    /// Takes an underlay address away.
    pub fn forget_underlay(&mut self, family: Family) {
        if let Some(facts) = &mut self.facts {
            *facts.underlay.get_mut(family) = None;
        }
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
    /// When it ended, Unix time in seconds; none where nobody wrote that down, as version 0.1.
    pub ended_unix: Option<i64>,
}
