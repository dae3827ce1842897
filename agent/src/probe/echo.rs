//! ICMP echo over raw sockets (RFC 792, RFC 4443). Needs CAP_NET_RAW.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};
use tokio::net::UdpSocket;

const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;
/// ICMP header and the token.
const LENGTH: usize = 16;

/// A raw ICMP socket bound to one of this node's VTEP addresses. It is driven through tokio's datagram type, which does no
/// more than wait, send and receive.
#[derive(Debug)]
pub(super) struct EchoSocket {
    source: IpAddr,
    socket: UdpSocket,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Echo {
    /// The token that the request carried.
    pub(super) token: u64,
    /// Who answered.
    pub(super) from: IpAddr,
}

impl EchoSocket {
    pub(super) fn open(source: IpAddr) -> io::Result<Self> {
        let (family, protocol) = match source {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let fd = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(protocol))?;
        bind(&fd, &SocketAddr::new(source, 0))?;
        Ok(Self { source, socket: UdpSocket::from_std(fd.into())? })
    }

    pub(super) const fn source(&self) -> IpAddr {
        self.source
    }

    pub(super) async fn send(&self, to: IpAddr, token: u64) -> io::Result<()> {
        let packet = request(self.source.is_ipv4(), token);
        self.socket.send_to(&packet, SocketAddr::new(to, 0)).await.map(|_| ())
    }

    /// The next answer. Errors of the socket (a queued ICMP error, say) are no answer: it goes on listening.
    pub(super) async fn receive(&self) -> Echo {
        let mut buffer = [0; 128];
        loop {
            let Ok((length, from)) = self.socket.recv_from(&mut buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            if let Some(token) = answer(self.source.is_ipv4(), &buffer[..length]) {
                return Echo { token, from: from.ip() };
            }
        }
    }
}

fn request(v4: bool, token: u64) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[0] = if v4 { REQUEST_V4 } else { REQUEST_V6 };
    packet[8..].copy_from_slice(&token.to_be_bytes());
    if v4 {
        // The kernel fills in the checksum of ICMPv6 only.
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Reads the token of an answer; a raw IPv4 socket delivers the IP header too, an IPv6 one does not.
fn answer(v4: bool, packet: &[u8]) -> Option<u64> {
    let icmp = if v4 {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        packet.get(header..)?
    } else {
        packet
    };
    let expected = if v4 { REPLY_V4 } else { REPLY_V6 };
    let token = icmp.get(8..LENGTH)?;
    (icmp[0] == expected).then(|| u64::from_be_bytes(token.try_into().expect("eight octets")))
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice, it fits 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_answered_is_recognized() {
        let mut packet = request(true, 0x0102_0304_0506_0708);
        let words: u32 = packet.chunks_exact(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
        assert_eq!((words & 0xffff) + (words >> 16), 0xffff, "the checksum is wrong");
        let with_ip_header = |icmp: &[u8]| [&[0x45; 20], icmp].concat();
        assert_eq!(answer(true, &with_ip_header(&packet)), None, "a request was taken for an answer");
        packet[0] = REPLY_V4;
        assert_eq!(answer(true, &with_ip_header(&packet)), Some(0x0102_0304_0506_0708));
        packet[0] = REPLY_V6;
        assert_eq!(answer(false, &packet), Some(0x0102_0304_0506_0708));
        assert_eq!(answer(false, &packet[..15]), None);
    }
}
