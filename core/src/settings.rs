//! Settings of the whole cluster: every node must hold the same, so the controller announces them.
//!
//! Must never hold what differs from node to node.

use std::{fmt, str::FromStr};

use crate::{
    membership::More,
    types::{Family, PodCidr, Vni},
};

/// Bytes that VXLAN adds in front of an inner IP packet over IPv4: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14.
pub const OVERHEAD_V4: u32 = 50;
/// The same over IPv6, whose header has 40 bytes.
pub const OVERHEAD_V6: u32 = 70;

/// The newest kind of settings that this version can follow. It rises with each version whose agents do something with a
/// setting that those before would only carry; 0 is version 0.1, which does not even carry what it does not know.
pub const GENERATION: u32 = 1;

/// When pod traffic is encapsulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Between subnets only; inside a subnet packets take the plain route.
    #[default]
    CrossSubnet,
    /// Between all nodes.
    Always,
    /// Never: peers off the node's own subnets cannot be reached.
    Never,
}

/// A text that names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mode {0:?} is not known: use crossSubnet, always or never")]
pub struct ModeError(String);

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        match text {
            "crossSubnet" => Ok(Self::CrossSubnet),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(ModeError(text.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CrossSubnet => "crossSubnet",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// What all nodes share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The networks that pod CIDRs are cut from; traffic to anything outside them is masqueraded. Sorted, no overlaps.
    pub pools: Vec<PodCidr>,
    /// When to encapsulate.
    pub mode: Mode,
    /// The VXLAN network identifier.
    pub vni: Vni,
    /// The UDP port of the tunnel, in host byte order.
    pub port: u16,
    /// The family of the outer packets, one for the whole cluster.
    pub outer: Family,
    /// What later versions say of the cluster.
    pub more: More,
}

impl Settings {
    /// What an agent must be able to follow at least: see [`GENERATION`]. All that version 0.1 does not know needs one that
    /// carries it.
    pub const fn generation(&self) -> u32 {
        if self.more.is_empty() { 0 } else { GENERATION }
    }

    /// Bytes that encapsulation adds to an inner IP packet.
    pub const fn overhead(&self) -> u32 {
        match self.outer {
            Family::V4 => OVERHEAD_V4,
            Family::V6 => OVERHEAD_V6,
        }
    }
}
