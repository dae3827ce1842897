//! Packets made by hand, for tests that play a forger.
//!
//! Owns the encoding of Ethernet, IPv4, IPv6, UDP, ICMP echo, router advertisements and VXLAN, with correct checksums: a forged packet must
//! fail for what it is, not for a mistake in it. Pure.

use std::net::{IpAddr, Ipv6Addr};

use super::packet::{ICMP, ICMPV6, UDP};

const TTL: u8 = 64;

/// An Ethernet frame around an IP packet.
pub fn ethernet(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if packet.first().is_some_and(|byte| byte >> 4 == 6) { [0x86, 0xdd] } else { [0x08, 0x00] };
    [&to[..], &from, &kind, packet].concat()
}

/// A VXLAN header and the inner frame (RFC 7348, section 5).
pub fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[0x08, 0, 0, 0, a, b, c, 0], frame].concat()
}

/// An IP packet with a UDP datagram.
///
/// # Panics
/// Where the two addresses are of different families, or the payload is longer than a datagram takes.
pub fn udp(from: (IpAddr, u16), to: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram fits 65,535 bytes");
    let mut datagram = Vec::with_capacity(length.into());
    for field in [from.1, to.1, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    let sum = match checksum(&[&pseudo_header(from.0, to.0, UDP, length), &datagram]) {
        // Zero would say "no checksum" (RFC 768).
        0 => u16::MAX,
        sum => sum,
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    ip(from.0, to.0, UDP, &datagram)
}

/// An ICMP or ICMPv6 echo request, without its IP header. For IPv6 the kernel's raw socket fills the checksum in.
pub fn echo_request(v6: bool, id: u16, sequence: u16) -> Vec<u8> {
    let [id, sequence] = [id.to_be_bytes(), sequence.to_be_bytes()];
    let kind = if v6 { 128 } else { 8 };
    let mut message = [&[kind, 0, 0, 0], &id[..], &sequence, b"weft lab"].concat();
    if !v6 {
        let sum = checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// An IP packet with an echo request.
///
/// # Panics
/// Where the two addresses are of different families.
pub fn echo(from: IpAddr, to: IpAddr, id: u16, sequence: u16) -> Vec<u8> {
    let mut message = echo_request(from.is_ipv6(), id, sequence);
    if from.is_ipv6() {
        let sum = checksum(&[&pseudo_header(from, to, ICMPV6, 16), &message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    ip(from, to, if from.is_ipv6() { ICMPV6 } else { ICMP }, &message)
}

/// An IPv6 packet with a router advertisement to all nodes (RFC 4861, section 4.2): `from` is a default router for half an
/// hour, and hosts may make themselves addresses in `prefix`/64 for as long.
pub fn router_advertisement(from: Ipv6Addr, prefix: Ipv6Addr) -> Vec<u8> {
    let lifetime = 1800;
    let [high, low] = u16::to_be_bytes(lifetime);
    let for_seconds = u32::from(lifetime).to_be_bytes();
    let header = [134, 0, 0, 0, 64, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
    // On-link, and for addresses.
    let option = [&[3, 4, 64, 0xc0][..], &for_seconds, &for_seconds, &[0; 4], &prefix.octets()].concat();
    let mut message = [&header[..], &option].concat();
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let length = u16::try_from(message.len()).expect("48 bytes");
    let sum = checksum(&[&pseudo_header(from.into(), all_nodes.into(), ICMPV6, length), &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = ip(from.into(), all_nodes.into(), ICMPV6, &message);
    // Nobody beyond the link may send one.
    packet[7] = u8::MAX;
    packet
}

fn ip(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [a, b] = u16::try_from(20 + length).expect("a packet fits 65,535 bytes").to_be_bytes();
            let mut header = vec![0x45, 0, a, b, 0, 0, 0, 0, TTL, protocol, 0, 0];
            header.extend(from.octets().into_iter().chain(to.octets()));
            let sum = checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&header, payload].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [a, b] = u16::try_from(length).expect("a packet fits 65,535 bytes").to_be_bytes();
            let header = [0x60, 0, 0, 0, a, b, protocol, TTL];
            [&header[..], &from.octets(), &to.octets(), payload].concat()
        }
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// RFC 768; RFC 8200, section 8.1.
fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, length: u16) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let [a, b] = length.to_be_bytes();
    [&octets(from)[..], &octets(to), &[0, protocol, a, b]].concat()
}

/// The Internet checksum (RFC 1071) over parts, all but the last of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice")
}
