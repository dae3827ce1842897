//! The digests of a membership: equal on both sides if and only if members and settings are.
//!
//! Owns the encodings that are hashed. There are two: the typed one is version 0.1's, octet by octet, and must never
//! change, since agents of that version compare it and ask for snapshots for ever if it differs; the other one covers
//! what later versions say as the octets that were received, so that nobody has to understand what it hashes. Both are
//! order-independent and incremental: the sum, modulo 2^128, of a hash of each member and of the settings. A sum
//! withstands chance, not a forger; whoever can announce members needs no collision.

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use sha2::{Digest as _, Sha256};

use super::{Member, More};
use crate::{
    settings::{Mode, Settings},
    types::Family,
};

const MEMBER: &[u8] = b"weft member 1\0";
const SETTINGS: &[u8] = b"weft settings 1\0";
const MORE_OF_MEMBER: &[u8] = b"weft more of member 1\0";
const MORE_OF_SETTINGS: &[u8] = b"weft more of settings 1\0";

/// A digest: 16 octets. The default stands for nothing at all: no members and no settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digest(u128);

/// Octets that are no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a membership digest has 16 octets, these are {0}: the sender speaks another version of the protocol")]
pub struct DigestError(usize);

/// Both digests of a membership.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Digests {
    /// Of what version 0.1 knows of members and settings.
    pub typed: Digest,
    /// Of the octets beyond that; the default where there are none.
    pub more: Digest,
}

/// Digests as a peer of some version told them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Told by every version.
    pub typed: Digest,
    /// None from version 0.1, which knows of nothing more.
    pub more: Option<Digest>,
}

impl Told {
    /// True where they are these, as far as their teller's version can say.
    pub fn is_of(&self, digests: &Digests) -> bool {
        self.typed == digests.typed && self.more.is_none_or(|more| more == digests.more)
    }
}

impl From<Digests> for Told {
    fn from(digests: Digests) -> Self {
        Self { typed: digests.typed, more: Some(digests.more) }
    }
}

impl Digests {
    /// The digests of a whole membership.
    pub fn of<'a>(settings: &Settings, members: impl IntoIterator<Item = &'a Member>) -> Self {
        let mut digests = Self::default();
        digests.add_settings(settings);
        for member in members {
            digests.add(member);
        }
        digests
    }

    pub(super) fn add(&mut self, member: &Member) {
        self.typed.add(hash(&encode_member(member)));
        self.more.add(hash_of_member(member));
    }

    pub(super) fn subtract(&mut self, member: &Member) {
        self.typed.subtract(hash(&encode_member(member)));
        self.more.subtract(hash_of_member(member));
    }

    pub(super) fn add_settings(&mut self, settings: &Settings) {
        self.typed.add(hash(&encode_settings(settings)));
        self.more.add(hash_more(MORE_OF_SETTINGS, b"", &settings.more));
    }

    pub(super) fn subtract_settings(&mut self, settings: &Settings) {
        self.typed.subtract(hash(&encode_settings(settings)));
        self.more.subtract(hash_more(MORE_OF_SETTINGS, b"", &settings.more));
    }
}

impl Digest {
    /// The digest as it travels.
    pub const fn octets(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The digest that travelled.
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(octets))
    }

    const fn add(&mut self, hash: u128) {
        self.0 = self.0.wrapping_add(hash);
    }

    const fn subtract(&mut self, hash: u128) {
        self.0 = self.0.wrapping_sub(hash);
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = DigestError;

    fn try_from(octets: &[u8]) -> Result<Self, DigestError> {
        octets.try_into().map(Self::from_octets).map_err(|_| DigestError(octets.len()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn hash(encoded: &[u8]) -> u128 {
    let octets: [u8; 32] = Sha256::digest(encoded).into();
    let half = octets.first_chunk().expect("SHA-256 has 32 octets");
    u128::from_be_bytes(*half)
}

fn hash_of_member(member: &Member) -> u128 {
    hash_more(MORE_OF_MEMBER, member.name.as_str().as_bytes(), &member.more)
}

/// Nothing more adds nothing: it costs no hash, and a membership without it has the default digest.
fn hash_more(tag: &[u8], name: &[u8], more: &More) -> u128 {
    if more.is_empty() {
        return 0;
    }
    let mut out = Vec::with_capacity(tag.len() + 8 + name.len() + more.octets().len());
    out.extend_from_slice(tag);
    put_count(&mut out, name.len());
    out.extend_from_slice(name);
    out.extend_from_slice(more.octets());
    hash(&out)
}

/// Injective: every field has a fixed length, or its length or kind in front.
fn encode_member(member: &Member) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(MEMBER);
    let name = member.name.as_str().as_bytes();
    put_count(&mut out, name.len());
    out.extend_from_slice(name);
    out.extend_from_slice(&member.incarnation.to_be_bytes());
    out.extend_from_slice(&member.endpoint.mac().octets());
    out.extend_from_slice(&member.underlay_mtu.to_be_bytes());
    for family in Family::ALL {
        put_network(&mut out, member.pod_cidrs.get(family).map(|cidr| cidr.network()));
        put_network(&mut out, member.underlay.get(family).map(|address| address.network()));
    }
    out
}

fn encode_settings(settings: &Settings) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + settings.pools.len() * 18);
    out.extend_from_slice(SETTINGS);
    put_count(&mut out, settings.pools.len());
    for pool in &settings.pools {
        put_network(&mut out, Some(pool.network()));
    }
    out.push(match settings.mode {
        Mode::CrossSubnet => 1,
        Mode::Always => 2,
        Mode::Never => 3,
    });
    out.extend(settings.encapsulation.hashed());
    out
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u64).to_be_bytes());
}

fn put_network(out: &mut Vec<u8>, network: Option<IpNetwork>) {
    let Some(network) = network else { return out.push(0) };
    match network.ip() {
        IpAddr::V4(address) => {
            out.push(4);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            out.push(6);
            out.extend_from_slice(&address.octets());
        }
    }
    out.push(network.prefix());
}

#[cfg(test)]
mod tests;
