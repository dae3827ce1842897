//! The source of the packet inside a VXLAN packet, looked up together with the VXLAN packet's own.
//!
//! The key of a set of pairs is built in registers that follow each other: the underlay address from register 1 on, behind it
//! the inner source, of which a mask leaves the network. Offsets are from the UDP header: 8 bytes of it, 8 of VXLAN (RFC 7348,
//! section 5), 14 of Ethernet, then the inner packet. Must never read what is not exactly so written for ours.

use weft_core::{
    nft::{BoundSet, Expr, SetName},
    types::Family,
};

use super::{
    super::step::{FIRST, SECOND, Step},
    NETWORK, TRANSPORT, source_offset, transport,
};

/// `NFT_REG32_01`: the four bytes behind an IPv4 address in register 1.
const BEHIND_IPV4: u32 = 9;
/// Where the ethertype of the inner frame is.
const ETHERTYPE: u32 = 28;
/// Where the inner packet begins.
const INNER: u32 = 30;

pub(super) fn ethertype(family: Family) -> Vec<Step> {
    let value: u16 = match family {
        Family::V4 => 0x0800,
        Family::V6 => 0x86dd,
    };
    vec![transport(ETHERTYPE, 2), Step::Equal(value.to_be_bytes().into())]
}

pub(super) fn read_ethertype(steps: &[Step]) -> Option<Expr> {
    let is_of = |family: &Family| steps.starts_with(&ethertype(*family));
    Family::ALL.into_iter().find(is_of).map(Expr::Inner)
}

pub(super) fn steps(set: BoundSet) -> Vec<Step> {
    let length = |family: Family| u32::from(family.bits() / 8);
    let register = match set.outer {
        Family::V4 => BEHIND_IPV4,
        Family::V6 => SECOND,
    };
    let (outer, inner) = (source_offset(set.outer), INNER + source_offset(set.inner));
    vec![
        Step::Payload { register: FIRST, base: NETWORK, offset: outer, length: length(set.outer) },
        Step::Payload { register, base: TRANSPORT, offset: inner, length: length(set.inner) },
        Step::Mask { register, mask: mask(set) },
        Step::Lookup { set: set.to_string(), negated: false },
    ]
}

/// The set that these steps look up, if they are as ours would be.
pub(super) fn read(found: &[Step], name: &str) -> Option<BoundSet> {
    match SetName::find(name)? {
        SetName::Bound(set) => found.starts_with(&steps(set)).then_some(set),
        _ => None,
    }
}

/// The first bits of an address, as many as the prefix is long.
fn mask(set: BoundSet) -> Vec<u8> {
    let bits = set.inner.bits();
    let all = u128::MAX.checked_shl(u32::from(128 - set.prefix)).unwrap_or(0);
    all.to_be_bytes()[..usize::from(bits / 8)].into()
}
