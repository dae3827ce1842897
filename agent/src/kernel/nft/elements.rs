//! Elements of sets: single addresses and pairs in hash sets, networks as half-open ranges in interval sets.
//!
//! A pair is the octets of an underlay address and then those of a network's first address, as rules load them.
//! An interval is two elements: its first address, and the address behind its last one with
//! `NFT_SET_ELEM_INTERVAL_END`; where nothing is behind the last address, there is no end element. Whatever cannot be
//! read as elements of ours makes the set unsound, and is described.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;
use weft_core::{
    kernel::Key,
    nft::{BoundSet, SetName, TABLE},
    types::Family,
};

use super::{
    set::key_length,
    step::DATA_VALUE,
    wire::{Attributes, Malformed, Parsed},
};

/// `NFTA_SET_ELEM_LIST_TABLE`, `…_SET` and `…_ELEMENTS`.
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
pub(super) const LIST_ELEMENTS: u16 = 3;
/// `NFTA_LIST_ELEM`.
const ELEMENT: u16 = 1;
/// `NFTA_SET_ELEM_KEY`, `…_FLAGS` and `…_USERDATA` (a comment).
const ELEMENT_KEY: u16 = 1;
const FLAGS: u16 = 3;
const COMMENT: u16 = 6;
/// The newest `NFTA_SET_ELEM_…` known here.
const NEWEST: u16 = 11;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// Elements of one message: the list must stay below 64 KiB, at 44 bytes for a pair and 64 for both ends of a range.
const IN_A_MESSAGE: usize = 1000;

/// What a set holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The elements.
    pub(super) keys: BTreeSet<Key>,
    /// What is no element of ours, described.
    pub(super) foreign: Vec<String>,
}

/// One element as the kernel keeps it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Raw {
    /// The address in network byte order.
    key: Vec<u8>,
    /// Ends come before starts of the same address: one range may end where the next begins.
    start: bool,
}

/// The attributes that name a set of the table, for requests about its elements.
pub(super) fn list(set: &str) -> Attributes {
    Attributes::new().text(LIST_TABLE, TABLE).text(LIST_SET, set)
}

/// The content of messages about elements of one set, with the elements that each is about.
pub(super) fn lists(set: SetName, keys: &[Key]) -> impl Iterator<Item = (Attributes, &[Key])> {
    keys.chunks(IN_A_MESSAGE).map(move |chunk| {
        let mut elements = Attributes::new();
        for raw in chunk.iter().flat_map(raws) {
            let mut element = Attributes::new().nest(ELEMENT_KEY, &Attributes::new().bytes(DATA_VALUE, &raw.key));
            if !raw.start {
                element = element.number(FLAGS, INTERVAL_END);
            }
            elements.push_nest(ELEMENT, &element);
        }
        (list(&set.to_string()).nest(LIST_ELEMENTS, &elements), chunk)
    })
}

fn raws(key: &Key) -> Vec<Raw> {
    match key {
        Key::Element(set, network) => {
            let mut found = vec![Raw { key: octets(network.network()), start: true }];
            if set.is_interval() {
                found.extend(behind(network).map(|key| Raw { key: octets(key), start: false }));
            }
            found
        }
        Key::Bound(outer, inner) => {
            vec![Raw { key: [octets(*outer), octets(inner.network())].concat(), start: true }]
        }
        _ => Vec::new(),
    }
}

/// The address behind the last one of a network.
fn behind(network: &IpNetwork) -> Option<IpAddr> {
    match network.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| Ipv4Addr::from(next).into()),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| Ipv6Addr::from(next).into()),
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// Collects the elements of one set over the messages of a dump.
#[derive(Debug)]
pub(super) struct Reader {
    set: SetName,
    raws: Vec<Raw>,
    foreign: Vec<String>,
}

impl Reader {
    /// Begins to read `set`.
    pub(super) fn new(set: SetName) -> Self {
        Self { set, raws: Vec::new(), foreign: Vec::new() }
    }

    /// Reads the elements of one message.
    pub(super) fn take(&mut self, message: &Parsed<'_>) -> Result<(), Malformed> {
        for (_, bytes) in message.nest(LIST_ELEMENTS)?.iter() {
            let element = Parsed::new(bytes)?;
            let key = element.nest(ELEMENT_KEY)?.get(DATA_VALUE).unwrap_or_default().to_vec();
            let flags = element.number(FLAGS).unwrap_or_default();
            let plain = element.iter().all(|(kind, _)| matches!(kind, ELEMENT_KEY | FLAGS | COMMENT) || kind > NEWEST);
            if plain && key.len() == key_length(self.set) && flags <= INTERVAL_END {
                self.raws.push(Raw { key, start: flags == 0 });
            } else {
                self.foreign.push(format!("set {} holds an element that is more than an address", self.set));
            }
        }
        Ok(())
    }

    /// What the set holds.
    pub(super) fn finish(mut self) -> Content {
        if self.set.is_interval() {
            self.raws.sort_unstable();
            self.ranges()
        } else {
            self.singles()
        }
    }

    fn singles(self) -> Content {
        let mut content = Content { keys: BTreeSet::new(), foreign: self.foreign };
        for raw in &self.raws {
            match single(self.set, &raw.key) {
                Some(key) => drop(content.keys.insert(key)),
                None => content.foreign.push(format!("set {} holds an address with host bits", self.set)),
            }
        }
        content
    }

    fn ranges(self) -> Content {
        let mut content = Content { keys: BTreeSet::new(), foreign: self.foreign };
        let mut open: Option<IpAddr> = None;
        let mut close = |first: Option<IpAddr>, end: Option<IpAddr>| {
            // Others write an end at address zero where an interval set begins; it ends nothing.
            let Some(first) = first else { return };
            match network(first, end) {
                Some(network) => {
                    content.keys.insert(Key::Element(self.set, network));
                }
                None => content.foreign.push(format!("set {} holds a range from {first} that is no CIDR", self.set)),
            }
        };
        for raw in &self.raws {
            let Some(at) = address(&raw.key) else { continue };
            if raw.start {
                close(open.replace(at), Some(at));
            } else {
                close(open.take(), Some(at));
            }
        }
        close(open, None);
        content
    }
}

/// The element of a hash set with this key; none where rules would never look it up.
fn single(set: SetName, key: &[u8]) -> Option<Key> {
    let SetName::Bound(BoundSet { outer, prefix, .. }) = set else {
        return Some(Key::Element(set, address(key)?.into()));
    };
    let (first, second) = key.split_at_checked(usize::from(outer.bits() / 8))?;
    let inner = IpNetwork::new(address(second)?, prefix).ok().filter(|inner| inner.network() == inner.ip())?;
    Some(Key::Bound(address(first)?, inner))
}

/// The network that begins at `first` and ends before `end`, where there is one.
fn network(first: IpAddr, end: Option<IpAddr>) -> Option<IpNetwork> {
    let size = match (first, end) {
        (IpAddr::V4(first), Some(IpAddr::V4(end))) => u128::from(u32::from(end).checked_sub(u32::from(first))?),
        (IpAddr::V6(first), Some(IpAddr::V6(end))) => u128::from(end).checked_sub(u128::from(first))?,
        (IpAddr::V4(first), None) => (1 << 32) - u128::from(u32::from(first)),
        // 2^128 itself does not fit.
        (IpAddr::V6(first), None) if first.is_unspecified() => return IpNetwork::new(first.into(), 0).ok(),
        (IpAddr::V6(first), None) => 0_u128.wrapping_sub(u128::from(first)),
        _ => return None,
    };
    let host_bits = u8::try_from(size.checked_ilog2()?).ok().filter(|_| size.is_power_of_two())?;
    let network = IpNetwork::new(first, Family::of(first).bits().checked_sub(host_bits)?).ok()?;
    (network.network() == first).then_some(network)
}

fn address(key: &[u8]) -> Option<IpAddr> {
    match key.len() {
        4 => <[u8; 4]>::try_from(key).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(key).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
