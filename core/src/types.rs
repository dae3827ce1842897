//! Checked types: parse at the edge, typed inside. A value of one of these cannot be invalid.
//!
//! Must never hold a default that stands for "unknown": what may be absent is an `Option`.

mod cidr;
mod family;
mod link_name;
mod mac;
mod mtu;
mod node_name;
mod revision;
mod underlay;
mod unix_ms;
mod vni;

pub use cidr::{CidrError, PodCidr};
pub use family::{Family, PerFamily};
pub use link_name::{LinkName, LinkNameError};
pub use mac::{Mac, MacError};
pub use mtu::{UNDERLAY_MTUS, UnderlayMtuError, parse_underlay_mtu};
pub use node_name::{NodeName, NodeNameError};
pub use revision::Revision;
pub use underlay::{UnderlayAddress, UnderlayError};
pub use unix_ms::UnixMs;
pub use vni::{Vni, VniError};
