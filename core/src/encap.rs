//! Encapsulation: how pods' packets travel between nodes across a network that knows nothing of pods.
//!
//! Owns its forms: what the cluster settles for each, what each adds to a packet, and what a member is in it. Must never say what
//! a kernel needs for it: each form has a module for that in `desired`, and one for its packets in `nft::ruleset`.

use crate::types::{Family, Mac, Vni};

/// Bytes that VXLAN adds in front of an inner IP packet over IPv4: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14.
pub const VXLAN_OVERHEAD_V4: u32 = 50;
/// The same over IPv6, whose header has 40 bytes.
pub const VXLAN_OVERHEAD_V6: u32 = 70;

/// How packets are encapsulated, the same in the whole cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encapsulation {
    /// VXLAN (RFC 7348).
    Vxlan {
        /// The network identifier.
        vni: Vni,
        /// The UDP port that nodes listen on, in host byte order.
        port: u16,
        /// The family of the outer packets.
        outer: Family,
    },
}

/// What a member is in the tunnel, beside its underlay addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A VTEP.
    Vxlan {
        /// Its Ethernet address, derived by the controller.
        mac: Mac,
    },
}

impl Encapsulation {
    /// The family of the outer packets.
    pub const fn outer(&self) -> Family {
        match self {
            Self::Vxlan { outer, .. } => *outer,
        }
    }

    /// The UDP port of the tunnel, in host byte order.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Vxlan { port, .. } => *port,
        }
    }

    /// Bytes that it adds to an inner IP packet.
    pub const fn overhead(&self) -> u32 {
        match self {
            Self::Vxlan { outer: Family::V4, .. } => VXLAN_OVERHEAD_V4,
            Self::Vxlan { outer: Family::V6, .. } => VXLAN_OVERHEAD_V6,
        }
    }

    /// The octets by which it is hashed, which are those of version 0.1.
    pub fn hashed(&self) -> Vec<u8> {
        match self {
            Self::Vxlan { vni, port, outer } => {
                let family = match outer {
                    Family::V4 => 4,
                    Family::V6 => 6,
                };
                [&vni.get().to_be_bytes()[..], &port.to_be_bytes()[..], &[family]].concat()
            }
        }
    }
}

impl Endpoint {
    /// Of a member with this Ethernet address, which the controller derives for every node: a VTEP, as long as there is no other
    /// form.
    pub const fn of(mac: Mac) -> Self {
        Self::Vxlan { mac }
    }

    /// The Ethernet address inside the tunnel.
    pub const fn mac(&self) -> Mac {
        match self {
            Self::Vxlan { mac } => *mac,
        }
    }
}
