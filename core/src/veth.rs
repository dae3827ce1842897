//! What every pod's link is like.
//!
//! Owns names and addresses that pods and the programs on their hosts may rely on: none may change while a pod runs.

use std::net::{Ipv4Addr, Ipv6Addr};

/// How the names of the hosts' ends of pod veths begin; 11 lower-case hexadecimal digits follow. Usable as kube-proxy's
/// `detectLocalMode: InterfaceNamePrefix`.
pub const POD_LINK_PREFIX: &str = "wpod";
/// The IPv4 gateway in every pod: on no interface, a permanent neighbour in the pod leads to the host's end.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 87, 1);
/// The IPv6 gateway in every pod: "WE" in the interface identifier, otherwise as [`GATEWAY_V4`].
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x5745);
