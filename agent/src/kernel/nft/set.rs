//! What a set of ours is to nf_tables: its flags and what its keys are made of.
//!
//! Pure. Must never say what is in a set.

use weft_core::{
    nft::{BoundSet, SetName},
    types::Family,
};

use super::{
    table::named,
    wire::{Attributes, Malformed, Parsed},
};

/// `NFTA_SET_NAME`, `…_FLAGS`, `…_KEY_TYPE`, `…_KEY_LEN`, `…_DESC` and `…_ID`.
const NAME: u16 = 2;
const FLAGS: u16 = 3;
const KEY_TYPE: u16 = 4;
const KEY_LENGTH: u16 = 5;
const DESCRIPTION: u16 = 9;
const ID: u16 = 10;
/// What ours have none of: data, timeout, expressions.
const ABSENT: [u16; 7] = [6, 7, 8, 11, 15, 17, 18];
/// `NFT_SET_INTERVAL`.
const INTERVAL: u32 = 4;
/// `TYPE_IPADDR` and `TYPE_IP6ADDR` of nft(8), which prints elements by them.
const IPV4_ADDRESS: u32 = 7;
const IPV6_ADDRESS: u32 = 8;
/// `TYPE_BITS` of nft(8): a concatenation's type is that of its parts, one behind the other.
const TYPE_BITS: u32 = 6;

/// The content of a message that creates it. Pairs have neither `NFT_SET_CONCAT` nor a description of their parts: with them
/// the kernel takes ranges, and copies the whole set at each commit.
pub(super) fn description(set: SetName) -> Attributes {
    let parts = [(FLAGS, flags(set)), (KEY_TYPE, key_type(set)), (KEY_LENGTH, length(set)), (ID, id(set))];
    let named = named().text(NAME, &set.to_string());
    parts.into_iter().fold(named, |attributes, (kind, value)| attributes.number(kind, value))
}

/// True where it is as we would create it, without data, timeout, expressions or a limit of its size.
pub(super) fn is_sound(set: SetName, found: &Parsed<'_>) -> Result<bool, Malformed> {
    let wanted = [(FLAGS, flags(set)), (KEY_TYPE, key_type(set)), (KEY_LENGTH, length(set))];
    let matches = wanted.iter().all(|(kind, value)| found.number(*kind).unwrap_or_default() == *value);
    let more = ABSENT.iter().any(|kind| found.get(*kind).is_some());
    let limited = found.nest(DESCRIPTION)?.iter().next().is_some();
    Ok(matches && !more && !limited)
}

/// Bytes of an element's key.
pub(super) fn key_length(set: SetName) -> usize {
    let of = |family: Family| usize::from(family.bits() / 8);
    match set {
        SetName::Bound(BoundSet { outer, inner, .. }) => of(outer) + of(inner),
        _ => of(set.family()),
    }
}

fn length(set: SetName) -> u32 {
    u32::try_from(key_length(set)).expect("two addresses have 32 bytes at most")
}

const fn flags(set: SetName) -> u32 {
    if set.is_interval() { INTERVAL } else { 0 }
}

const fn key_type(set: SetName) -> u32 {
    match set {
        SetName::Bound(BoundSet { outer, inner, .. }) => address_type(outer) << TYPE_BITS | address_type(inner),
        _ => address_type(set.family()),
    }
}

const fn address_type(family: Family) -> u32 {
    match family {
        Family::V4 => IPV4_ADDRESS,
        Family::V6 => IPV6_ADDRESS,
    }
}

/// Names a set inside the transaction; the kernel wants one, ours are found by name.
fn id(set: SetName) -> u32 {
    let number = |family| u32::from(family == Family::V6);
    match set {
        SetName::Bound(BoundSet { outer, inner, prefix }) => {
            0x100 * (1 + 2 * number(outer) + number(inner)) + u32::from(prefix)
        }
        fixed => SetName::FIXED.iter().position(|other| *other == fixed).map_or(0, |index| index as u32 + 1),
    }
}
