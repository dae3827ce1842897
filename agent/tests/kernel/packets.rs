//! Packets that look like a tunnel's, and whoever waits for them.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use super::netns::{address, routes, up};

/// The tunnel's port.
pub(crate) const PORT: u16 = 4789;

/// Brings up the loopback with a few addresses: 10.0.0.1 for this host, .9 for a member, .66 for a stranger.
pub(crate) async fn loopback() {
    let handle = routes();
    up(&handle, "lo").await;
    for text in ["10.0.0.1/32", "10.0.0.9/32", "10.0.0.66/32", "fd00:a::1/128", "fd00:a::9/128", "fd00:a::66/128"] {
        address(&handle, "lo", text).await;
    }
}

/// A VXLAN header (RFC 7348, section 5) and a few bytes more.
pub(crate) fn vxlan(vni: u32) -> Vec<u8> {
    let [_, high, middle, low] = vni.to_be_bytes();
    [&[8, 0, 0, 0, high, middle, low, 0][..], b"inner"].concat()
}

/// The same around a frame with the beginning of an IP packet from `source`.
pub(crate) fn vxlan_from(vni: u32, source: &str) -> Vec<u8> {
    let (kind, at, octets) = match source.parse().expect(source) {
        IpAddr::V4(source) => ([0x08, 0x00], 12, source.octets().to_vec()),
        IpAddr::V6(source) => ([0x86, 0xdd], 8, source.octets().to_vec()),
    };
    let mut packet = vec![0; 40];
    packet[at..at + octets.len()].copy_from_slice(&octets);
    [&vxlan(vni)[..8], &[0; 12], &kind, &packet].concat()
}

/// Sends from one of this host's addresses to the tunnel's port.
pub(crate) fn tunnel(from: &str, to: &str, vni: u32) {
    send(from, 0, to, PORT, &vxlan(vni));
}

/// Sends a UDP packet and returns the source port.
pub(crate) fn send(from: &str, from_port: u16, to: &str, port: u16, payload: &[u8]) -> u16 {
    let at = |text: &str| text.parse::<IpAddr>().expect(text);
    let socket = UdpSocket::bind(SocketAddr::new(at(from), from_port)).expect(from);
    socket.send_to(payload, SocketAddr::new(at(to), port)).expect("a route");
    socket.local_addr().expect("it is bound").port()
}

/// Waits on a port.
pub(crate) fn listen(on: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(on.parse().expect(on), port)).expect(on);
    // A packet that is lost for good fails the test instead of hanging it.
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    socket
}

/// The next packet: who it seems to come from, and what is in it.
pub(crate) fn next(socket: &UdpSocket) -> (SocketAddr, Vec<u8>) {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).expect("a packet");
    (from, buffer[..length].to_vec())
}
