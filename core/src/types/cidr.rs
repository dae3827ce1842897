//! Pod CIDRs.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnetwork::IpNetwork;

use super::Family;

/// A canonical network (no host bits) that pods can take their addresses from: IPv4 /8 to /30, IPv6 /16 to /126, and
/// no part of it loopback, link-local or multicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodCidr(IpNetwork);

/// Why a network cannot be a pod CIDR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not of the form `address/prefix`.
    #[error("CIDR {0:?} cannot be read: give an address and a prefix length, such as 10.244.0.0/16")]
    Syntax(String),
    /// Bits beyond the prefix are set.
    #[error("CIDR {given} has host bits set: write {canonical}")]
    HostBits {
        /// As given.
        given: IpNetwork,
        /// The network that contains it.
        canonical: IpNetwork,
    },
    /// Too large or too small to hand addresses from.
    #[error("CIDR {0} has no usable prefix length: IPv4 takes /8 to /30, IPv6 /16 to /126")]
    Prefix(IpNetwork),
    /// Addresses that pods cannot have.
    #[error("CIDR {0} overlaps loopback, link-local, multicast or unspecified addresses: choose private unicast space")]
    Reserved(IpNetwork),
}

impl PodCidr {
    /// Checks a network.
    pub fn new(network: IpNetwork) -> Result<Self, CidrError> {
        let canonical = IpNetwork::new(network.network(), network.prefix()).map_err(|_| CidrError::Prefix(network))?;
        if canonical != network {
            return Err(CidrError::HostBits { given: network, canonical });
        }
        let prefixes = match network {
            IpNetwork::V4(_) => 8..=30,
            IpNetwork::V6(_) => 16..=126,
        };
        if !prefixes.contains(&network.prefix()) {
            return Err(CidrError::Prefix(network));
        }
        if is_reserved(network) {
            return Err(CidrError::Reserved(network));
        }
        Ok(Self(network))
    }

    /// The network.
    pub const fn network(&self) -> IpNetwork {
        self.0
    }

    /// The family.
    pub fn family(&self) -> Family {
        Family::of(self.0.ip())
    }

    /// The prefix length in bits.
    pub fn prefix(&self) -> u8 {
        self.0.prefix()
    }

    /// The first address, which is the node's VTEP address.
    pub fn vtep(&self) -> IpAddr {
        self.0.ip()
    }

    /// True where the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        networks_overlap(self.0, other.0)
    }

    /// True where every address of `other` is in this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix() <= other.prefix() && self.overlaps(other)
    }

    /// True where `address` is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// The address at `offset` from the first, or none beyond the last.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        let host_bits = u32::from(self.family().bits() - self.prefix());
        if host_bits < 128 && offset >> host_bits != 0 {
            return None;
        }
        Some(match self.0.ip() {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) | u32::try_from(offset).ok()?).into(),
            IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) | offset).into(),
        })
    }
}

/// True where the two networks share an address.
fn networks_overlap(a: IpNetwork, b: IpNetwork) -> bool {
    let (wide, narrow) = if a.prefix() <= b.prefix() { (a, b) } else { (b, a) };
    wide.contains(narrow.ip())
}

fn is_reserved(network: IpNetwork) -> bool {
    let reserved: &[&str] = match network {
        IpNetwork::V4(_) => &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"],
        IpNetwork::V6(_) => &["::/16", "fe80::/10", "ff00::/8"],
    };
    reserved.iter().any(|text| networks_overlap(network, text.parse().expect("the table above is well-formed")))
}

impl TryFrom<IpNetwork> for PodCidr {
    type Error = CidrError;

    fn try_from(network: IpNetwork) -> Result<Self, CidrError> {
        Self::new(network)
    }
}

impl FromStr for PodCidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError::Syntax(text.chars().take(64).collect());
        let network: IpNetwork = text.parse().map_err(|_| wrong())?;
        if !text.contains('/') {
            return Err(wrong());
        }
        Self::new(network)
    }
}

impl fmt::Display for PodCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> PodCidr {
        text.parse().expect(text)
    }

    #[test]
    fn names_what_is_wrong() {
        let error = |text: &str| text.parse::<PodCidr>().expect_err(text);
        assert!(matches!(error("10.0.0.0"), CidrError::Syntax(_)));
        assert!(matches!(error("10.0.0.1/24"), CidrError::HostBits { .. }));
        assert!(matches!(error("10.0.0.0/31"), CidrError::Prefix(_)));
        assert!(matches!(error("fd00::/127"), CidrError::Prefix(_)));
        assert!(matches!(error("127.0.0.0/16"), CidrError::Reserved(_)));
        assert!(matches!(error("fe80::/64"), CidrError::Reserved(_)));
        assert!(error("10.0.0.1/24").to_string().contains("write 10.0.0.0/24"));
    }

    #[test]
    fn nth_stays_inside() {
        assert_eq!(cidr("10.1.2.0/24").nth(255), Some([10, 1, 2, 255].into()));
        assert_eq!(cidr("10.1.2.0/24").nth(256), None);
        assert_eq!(cidr("fd00:0:0:1::/64").nth(1), Some("fd00:0:0:1::1".parse().expect("an address")));
        assert_eq!(cidr("fd00:0:0:1::/64").nth(1 << 64), None);
    }

    #[test]
    fn overlap_is_symmetric_and_by_family() {
        assert!(cidr("10.0.0.0/8").overlaps(&cidr("10.1.0.0/24")));
        assert!(cidr("10.1.0.0/24").overlaps(&cidr("10.0.0.0/8")));
        assert!(!cidr("10.1.0.0/24").overlaps(&cidr("10.1.1.0/24")));
        assert!(!cidr("10.0.0.0/8").overlaps(&cidr("fd00::/16")));
        assert!(cidr("10.0.0.0/8").covers(&cidr("10.1.0.0/24")) && !cidr("10.1.0.0/24").covers(&cidr("10.0.0.0/8")));
    }
}
