//! Underlay addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnetwork::IpNetwork;

use super::Family;

/// A node's own address on the underlay together with its on-link prefix, such as `192.0.2.7/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnderlayAddress(IpNetwork);

/// Why an address cannot carry outer packets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "underlay address {0:?} is not usable: give a global or private unicast address with its prefix length, such as 192.0.2.7/24"
)]
pub struct UnderlayError(String);

impl UnderlayAddress {
    /// Checks an address and its on-link prefix length: unicast, and neither loopback, link-local nor unspecified.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, UnderlayError> {
        let wrong = || UnderlayError(format!("{address}/{prefix}"));
        let usable = match address {
            IpAddr::V4(a) => {
                !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_broadcast() || a.is_link_local())
            }
            IpAddr::V6(a) => {
                let mapped = a.to_ipv4_mapped().is_some();
                !(a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_unicast_link_local() || mapped)
            }
        };
        match IpNetwork::new(address, prefix) {
            Ok(network) if usable && prefix > 0 => Ok(Self(network)),
            _ => Err(wrong()),
        }
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.0.ip()
    }

    /// The on-link prefix length in bits.
    pub fn prefix(&self) -> u8 {
        self.0.prefix()
    }

    /// The address and its prefix as one network value.
    pub const fn network(&self) -> IpNetwork {
        self.0
    }

    /// The family.
    pub fn family(&self) -> Family {
        Family::of(self.0.ip())
    }

    /// True where `other` lies in this address's on-link prefix.
    pub fn reaches(&self, other: &Self) -> bool {
        self.family() == other.family() && self.0.contains(other.address())
    }
}

impl FromStr for UnderlayAddress {
    type Err = UnderlayError;

    fn from_str(text: &str) -> Result<Self, UnderlayError> {
        let wrong = || UnderlayError(text.chars().take(64).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        Self::new(address.parse().map_err(|_| wrong())?, prefix.parse().map_err(|_| wrong())?)
    }
}

impl fmt::Display for UnderlayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_carry_packets_between_hosts() {
        for bad in [
            "",
            "10.0.0.1",
            "10.0.0.1/0",
            "10.0.0.1/33",
            "127.0.0.1/8",
            "169.254.0.1/16",
            "224.0.0.1/4",
            "::1/128",
            "fe80::1/64",
            "::/64",
            "ff02::1/16",
            "::ffff:10.0.0.1/120",
        ] {
            assert!(bad.parse::<UnderlayAddress>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn reaches_only_its_own_prefix_and_family() {
        let at = |text: &str| text.parse::<UnderlayAddress>().expect(text);
        assert!(at("10.0.1.1/24").reaches(&at("10.0.1.200/25")));
        assert!(!at("10.0.1.1/24").reaches(&at("10.0.2.1/24")));
        assert!(!at("10.0.1.1/24").reaches(&at("fd00::1/64")));
    }
}
