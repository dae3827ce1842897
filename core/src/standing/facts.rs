//! What a node says of itself.
//!
//! Owns the facts that make it a member. Must never say whether they are believed.

use std::net::IpAddr;

use crate::types::{PerFamily, UnderlayAddress};

/// Routers that a node names at most.
pub const GATEWAYS: usize = 8;

/// What a node says of itself, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its underlay addresses with their on-link prefixes.
    pub underlay: PerFamily<Option<UnderlayAddress>>,
    /// MTU of its underlay link in bytes.
    pub underlay_mtu: u32,
    /// Routers by which it reaches other networks.
    pub gateways: Vec<IpAddr>,
    /// Version of its agent.
    pub agent_version: String,
    /// The newest kind of settings that its agent can follow.
    pub generation: u32,
}
