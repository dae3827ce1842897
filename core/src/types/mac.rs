//! Ethernet addresses.

use std::{fmt, net::Ipv6Addr, str::FromStr};

/// A unicast Ethernet address that is not all zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// Why a value is no usable Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("MAC address {0:?} is not a unicast Ethernet address: give six hexadecimal octets such as 02:57:0a:00:00:01")]
pub struct MacError(String);

impl Mac {
    /// Checks six octets: unicast (lowest bit of the first octet clear) and not all zeros.
    pub fn new(octets: [u8; 6]) -> Result<Self, MacError> {
        let mac = Self(octets);
        if octets == [0; 6] || octets[0] & 1 == 1 {
            return Err(MacError(mac.to_string()));
        }
        Ok(mac)
    }

    /// A locally administered unicast address (IEEE 802-2014, 8.4) made of 46 bits of `seed`.
    pub const fn local(seed: [u8; 6]) -> Self {
        let mut octets = seed;
        octets[0] = (octets[0] & 0xfc) | 0x02;
        Self(octets)
    }

    /// The octets in transmission order.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The IPv6 link-local address with the modified EUI-64 interface identifier (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl TryFrom<&[u8]> for Mac {
    type Error = MacError;

    fn try_from(octets: &[u8]) -> Result<Self, MacError> {
        let octets = <[u8; 6]>::try_from(octets).map_err(|_| MacError(format!("{octets:02x?}")))?;
        Self::new(octets)
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let wrong = || MacError(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            // from_str_radix would take a sign.
            let two_digits = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            let part = parts.next().filter(two_digits).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Self::new(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_one_unicast_address() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "+2:00:00:00:00:01",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn link_local_is_modified_eui64() {
        let mac: Mac = "02:57:0a:0b:0c:0d".parse().expect("a valid address");
        assert_eq!(mac.link_local().to_string(), "fe80::57:aff:fe0b:c0d");
        assert_eq!(mac.to_string(), "02:57:0a:0b:0c:0d");
    }
}
