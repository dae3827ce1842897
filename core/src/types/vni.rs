//! VXLAN network identifiers.

use std::{fmt, str::FromStr};

/// A VXLAN network identifier: 24 bits (RFC 7348, section 5), not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

/// Why a number is no VNI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("VNI {0} is out of range: give a number from 1 to 16777215")]
pub struct VniError(String);

impl Vni {
    /// Checks the range.
    pub fn new(value: u32) -> Result<Self, VniError> {
        match value {
            1..=0x00ff_ffff => Ok(Self(value)),
            _ => Err(VniError(value.to_string())),
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Vni {
    type Err = VniError;

    fn from_str(text: &str) -> Result<Self, VniError> {
        text.parse().map_err(|_| VniError(text.to_owned())).and_then(Self::new)
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
