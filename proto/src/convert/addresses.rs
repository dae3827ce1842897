//! Networks and revisions.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use weft_core::types::{Family, PerFamily, Revision};

use super::ConvertError;
use crate::v1;

/// Reads a network or an address with its prefix.
pub fn cidr(field: &str, wire: &v1::Cidr) -> Result<IpNetwork, ConvertError> {
    let address = address(field, &wire.address)?;
    u8::try_from(wire.prefix)
        .ok()
        .and_then(|prefix| IpNetwork::new(address, prefix).ok())
        .ok_or_else(|| ConvertError::new(field, format!("prefix length {} of {address} is too long", wire.prefix)))
}

/// Writes a network or an address with its prefix.
pub fn to_cidr(network: IpNetwork) -> v1::Cidr {
    v1::Cidr { address: octets(&network.ip()), prefix: network.prefix().into() }
}

/// Reads an address in network byte order.
pub(super) fn address(field: &str, octets: &[u8]) -> Result<IpAddr, ConvertError> {
    match octets.len() {
        4 => Ok(<[u8; 4]>::try_from(octets).expect("four octets").into()),
        16 => Ok(<[u8; 16]>::try_from(octets).expect("sixteen octets").into()),
        other => Err(ConvertError::new(field, format!("has {other} octets: an address has 4 or 16"))),
    }
}

/// Writes an address in network byte order.
pub(super) fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Reads a list of networks whose wire form is already checked elsewhere, for printing; entries that cannot be read are
/// an error of the whole list.
pub fn networks(field: &str, wire: &[v1::Cidr]) -> Result<Vec<IpNetwork>, ConvertError> {
    wire.iter().map(|entry| cidr(field, entry)).collect()
}

/// Reads at most one value per family.
pub(super) fn per_family<T: Copy, E: ToString>(
    field: &str,
    wire: &[v1::Cidr],
    check: impl Fn(IpNetwork) -> Result<T, E>,
) -> Result<PerFamily<Option<T>>, ConvertError> {
    let mut values = PerFamily { v4: None, v6: None };
    for entry in wire {
        let network = cidr(field, entry)?;
        let value = check(network).map_err(|error| ConvertError::new(field, error))?;
        let family = Family::of(network.ip());
        if values.get_mut(family).replace(value).is_some() {
            return Err(ConvertError::new(field, format!("holds more than one {family} entry")));
        }
    }
    Ok(values)
}

impl From<Revision> for v1::Revision {
    fn from(revision: Revision) -> Self {
        Self { epoch: revision.epoch, sequence: revision.sequence }
    }
}

impl From<v1::Revision> for Revision {
    fn from(wire: v1::Revision) -> Self {
        Self::new(wire.epoch, wire.sequence)
    }
}

impl From<Family> for v1::Family {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4,
            Family::V6 => Self::Ipv6,
        }
    }
}
