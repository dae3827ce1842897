//! The MTU of an underlay: the largest IP packet that it carries from node to node.

use std::ops::RangeInclusive;

/// In bytes: from the smallest that IPv6 works with (RFC 8200, section 5) to the largest of an IP link.
pub const UNDERLAY_MTUS: RangeInclusive<u32> = 1280..=65_536;

/// No MTU of an underlay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MTU of an underlay: give a number of bytes from {min} to {max}", min = UNDERLAY_MTUS.start(), max = UNDERLAY_MTUS.end())]
pub struct UnderlayMtuError(String);

/// Reads an MTU, in bytes.
///
/// # Errors
/// Where the text is no number within [`UNDERLAY_MTUS`].
pub fn parse_underlay_mtu(text: &str) -> Result<u32, UnderlayMtuError> {
    text.parse().ok().filter(|mtu| UNDERLAY_MTUS.contains(mtu)).ok_or_else(|| UnderlayMtuError(text.to_owned()))
}
