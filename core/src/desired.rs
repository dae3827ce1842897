//! The desired state: what a node's kernel should hold for a given membership.
//!
//! Owns the rules of design that say which objects a peer needs. Pure: the same input gives the same objects.

mod node;
mod nexthop_ids;
mod peer;

use std::net::IpAddr;

pub use nexthop_ids::NexthopIds;
pub use node::{node, pod};
pub use peer::{keys as peer_keys, peer};

use crate::types::{LinkName, Mac, PerFamily, UnderlayAddress};

/// What this node knows of itself, beside its own entry in the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Name of the VXLAN device.
    pub device: LinkName,
    /// The link that carries outer packets.
    pub underlay: Underlay,
}

/// The link towards the other nodes, as the kernel has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// Its name.
    pub link: LinkName,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: PerFamily<Option<UnderlayAddress>>,
    /// True where the link's IPv6 configuration comes from router advertisements, so that forwarding needs accept_ra=2.
    pub by_router_advertisement: bool,
}

/// The host's side of one attached pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The host's end of the veth pair.
    pub link: LinkName,
    /// MAC of the pod's end.
    pub mac: Mac,
    /// The pod's addresses.
    pub addresses: PerFamily<Option<IpAddr>>,
}
