//! Settings of the whole cluster: every node must hold the same, so the controller announces them.
//!
//! Must never hold what differs from node to node.

use std::{fmt, str::FromStr};

use crate::{
    encap::Encapsulation,
    more::More,
    types::{Family, PodCidr},
};

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
    /// How.
    pub encapsulation: Encapsulation,
    /// What later versions say of the cluster.
    pub more: More,
}

impl Settings {
    /// What an agent must be able to follow at least: see [`GENERATION`]. All that version 0.1 does not know needs one that
    /// carries it.
    pub const fn generation(&self) -> u32 {
        if self.more.is_empty() { 0 } else { GENERATION }
    }

    /// The family of the outer packets, one for the whole cluster.
    pub const fn outer(&self) -> Family {
        self.encapsulation.outer()
    }
}
