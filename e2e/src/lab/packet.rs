//! What a captured frame says, as far as the lab asks.
//!
//! Owns the parsing of Ethernet, IPv4, IPv6, UDP, TCP, ICMP and VXLAN headers. Pure; whatever is cut short or unknown
//! is left out, never guessed.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// IP protocol numbers.
pub const ICMP: u8 = 1;
/// See [`ICMP`].
pub const TCP: u8 = 6;
/// See [`ICMP`].
pub const UDP: u8 = 17;
/// See [`ICMP`].
pub const ICMPV6: u8 = 58;
/// The tunnel's default port.
pub const VXLAN_PORT: u16 = 4789;
/// An IPv6 fragment header (RFC 8200, section 4.5).
const FRAGMENT: u8 = 44;
const ETHERNET: usize = 14;

/// The IP header of a packet, and the beginning of what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Source and destination port of TCP and UDP, in host byte order.
    pub ports: Option<(u16, u16)>,
    /// Type and code of ICMP.
    pub icmp: Option<(u8, u8)>,
}

/// A packet inside a VXLAN packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The inner IP packet, where there is one (ARP has none).
    pub inner: Option<Ip>,
}

/// Which way a packet passed an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Received by it.
    In,
    /// Sent by it.
    Out,
}

/// A captured IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Which way it passed.
    pub direction: Direction,
    /// Its outermost IP header.
    pub ip: Ip,
    /// What a VXLAN packet carries.
    pub tunnel: Option<Tunnel>,
    /// Its length in bytes with the outermost IP header, as that says.
    pub length: usize,
}

impl Packet {
    /// Reads an Ethernet frame; none where it is no IP packet.
    pub fn parse(frame: &[u8], direction: Direction) -> Option<Self> {
        let (ip, rest) = ethernet(frame)?;
        let is_vxlan = ip.protocol == UDP && ip.ports.is_some_and(|(_, to)| to == VXLAN_PORT);
        let tunnel = if is_vxlan { vxlan(rest.get(8..)?) } else { None };
        Some(Self { direction, ip, tunnel, length: length(frame.get(ETHERNET..)?)? })
    }

    /// True where either end of the outermost IP header satisfies `test`.
    pub fn touches(&self, test: impl Fn(IpAddr) -> bool) -> bool {
        test(self.ip.src) || test(self.ip.dst)
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.direction == Direction::In { "in" } else { "out" };
        write!(f, "{way} {}", self.ip)?;
        match &self.tunnel {
            Some(Tunnel { vni, inner: Some(inner) }) => write!(f, " vxlan {vni} [{inner}]"),
            Some(Tunnel { vni, inner: None }) => write!(f, " vxlan {vni} [no IP]"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} protocol {}", self.src, self.dst, self.protocol)?;
        match (self.ports, self.icmp) {
            (Some((from, to)), _) => write!(f, " ports {from} > {to}"),
            (None, Some((kind, code))) => write!(f, " type {kind} code {code}"),
            (None, None) => Ok(()),
        }
    }
}

/// The total length in an IPv4 header (RFC 791), or what an IPv6 header and its payload take (RFC 8200).
fn length(packet: &[u8]) -> Option<usize> {
    let field = |at: usize| Some(usize::from(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?])));
    if packet.first()? >> 4 == 6 { Some(field(4)? + 40) } else { field(2) }
}

fn ethernet(frame: &[u8]) -> Option<(Ip, &[u8])> {
    let payload = frame.get(ETHERNET..)?;
    match frame[12..ETHERNET] {
        [0x08, 0x00] => ipv4(payload),
        [0x86, 0xdd] => ipv6(payload),
        _ => None,
    }
}

/// RFC 791, section 3.1; RFC 8200, section 3 below. The first fragment only has ports.
fn ipv4(packet: &[u8]) -> Option<(Ip, &[u8])> {
    let header = packet.get(..20)?;
    let length = usize::from(header[0] & 0x0f) * 4;
    let fragment = u16::from_be_bytes([header[6] & 0x1f, header[7]]);
    let src = Ipv4Addr::from(<[u8; 4]>::try_from(&header[12..16]).ok()?).into();
    let dst = Ipv4Addr::from(<[u8; 4]>::try_from(&header[16..20]).ok()?).into();
    let rest = if fragment == 0 { packet.get(length..)? } else { &[] };
    Some((transport(src, dst, header[9], rest), rest))
}

fn ipv6(packet: &[u8]) -> Option<(Ip, &[u8])> {
    let header = packet.get(..40)?;
    let src = Ipv6Addr::from(<[u8; 16]>::try_from(&header[8..24]).ok()?).into();
    let dst = Ipv6Addr::from(<[u8; 16]>::try_from(&header[24..40]).ok()?).into();
    let (mut protocol, mut rest) = (header[6], &packet[40..]);
    if protocol == FRAGMENT {
        let fragment = rest.get(..8)?;
        protocol = fragment[0];
        let offset = u16::from_be_bytes([fragment[2], fragment[3]]) >> 3;
        rest = if offset == 0 { &rest[8..] } else { &[] };
    }
    Some((transport(src, dst, protocol, rest), rest))
}

fn transport(src: IpAddr, dst: IpAddr, protocol: u8, payload: &[u8]) -> Ip {
    let mut ip = Ip { src, dst, protocol, ports: None, icmp: None };
    match (protocol, payload) {
        (TCP | UDP, [a, b, c, d, ..]) => {
            ip.ports = Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
        }
        (ICMP | ICMPV6, [kind, code, ..]) => ip.icmp = Some((*kind, *code)),
        _ => {}
    }
    ip
}

/// RFC 7348, section 5: flags, 24 reserved bits, VNI, 8 reserved bits, then the inner frame.
fn vxlan(payload: &[u8]) -> Option<Tunnel> {
    let header = payload.get(..8)?;
    let vni = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    Some(Tunnel { vni, inner: ethernet(&payload[8..]).map(|(ip, _)| ip) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::frame;

    #[test]
    fn reads_what_the_builder_writes_in_both_families() {
        for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let inner = frame::ethernet([2; 6], [4; 6], &frame::udp((from, 7), (to, 9), b"hello"));
            let packet = Packet::parse(&inner, Direction::In).expect("an IP packet");
            assert_eq!((packet.ip.src, packet.ip.dst, packet.ip.ports), (from, to, Some((7, 9))));
            let outer = frame::udp((from, 40_000), (to, VXLAN_PORT), &frame::vxlan(87, &inner));
            let packet = Packet::parse(&frame::ethernet([2; 6], [4; 6], &outer), Direction::Out).expect("an IP packet");
            let tunnel = packet.tunnel.expect("a VXLAN packet");
            assert_eq!(tunnel.vni, 87);
            assert_eq!(tunnel.inner.map(|ip| ip.ports), Some(Some((7, 9))));
        }
    }

    #[test]
    fn takes_nothing_for_granted() {
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let whole = frame::ethernet([2; 6], [4; 6], &frame::udp((ip, 1), (ip, VXLAN_PORT), &frame::vxlan(1, &[0; 64])));
        for length in 0..whole.len() {
            // Must not panic; what can be read of a short frame may be read.
            let _ = Packet::parse(&whole[..length], Direction::In);
        }
        assert_eq!(Packet::parse(&[0; 60], Direction::In), None);
    }
}
