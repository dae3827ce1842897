//! Versions of the CNI specification.

use std::fmt;

use super::{CniError, Code};

/// A version of the specification that the plugin speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.1: interfaces and several addresses in results.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses without a version field.
    V1_0_0,
    /// 1.1.0: GC and STATUS, the MTU in results.
    V1_1_0,
}

impl Version {
    /// All, oldest first.
    pub const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest.
    pub const LATEST: Self = Self::V1_1_0;

    /// As written in `cniVersion`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Reads `cniVersion`.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let known = Self::ALL.map(Self::as_str).join(", ");
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            CniError::new(
                Code::IncompatibleVersion,
                format!("cniVersion {shown:?} is not supported: use one of {known} in the network configuration"),
            )
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
