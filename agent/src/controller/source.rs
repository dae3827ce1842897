//! The address of this node that a connection has, and whether the node still has it.
//!
//! A TCP connection whose own address was taken from the node is dead, and nobody says so: keepalives would find out
//! after a quarter of a minute, while peers send to an address that is gone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) address: IpAddr,
    /// It is what this node announces as its own, and the connection proves it.
    pub(super) is_announced: bool,
}

/// This node's address towards `to`: what the kernel chooses for UDP it chooses for TCP as well. No packet is sent.
pub(super) fn towards(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// False where the kernel says that the node does not have this address.
pub(super) fn is_here(address: IpAddr) -> bool {
    // A link-local address counts on its link only, which is not known here.
    let on_a_link = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    on_a_link
        || !matches!(UdpSocket::bind((address, 0)), Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_here_and_the_documentations_network_is_not() {
        let to: SocketAddr = "127.0.0.1:7887".parse().expect("an address");
        assert_eq!(towards(to), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(is_here(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(!is_here("192.0.2.1".parse().expect("an address")));
    }
}
