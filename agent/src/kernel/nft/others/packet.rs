//! A packet as other tables' rules see it.
//!
//! Owns what is known of it at each hook: links, header, connection. Must never guess: what is not known is none.

use std::net::IpAddr;

/// `enum nf_inet_hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    pub(super) const fn new(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Prerouting),
            1 => Some(Self::Input),
            2 => Some(Self::Forward),
            3 => Some(Self::Output),
            4 => Some(Self::Postrouting),
            _ => None,
        }
    }
}

/// Which way a packet takes through the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// To the host itself.
    In,
    /// From the host itself.
    Out,
    /// Through it.
    Through,
}

/// The first packet of its connection, without a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Which way.
    pub path: Path,
    /// The link it comes by, with its index where that is known; none for the host's own.
    pub by: Option<(String, Option<u32>)>,
    /// The link it leaves by; none for what is for the host.
    pub to: Option<(String, Option<u32>)>,
    /// Its source.
    pub source: IpAddr,
    /// False where the source stands for any: a rule about it cannot be judged.
    pub source_is_known: bool,
    /// Its destination.
    pub destination: IpAddr,
    /// `IPPROTO_UDP` or `IPPROTO_TCP`.
    pub protocol: u8,
    /// Port it is sent to.
    pub port: u16,
    /// True for what connection tracking leaves alone, as ours does with the tunnel.
    pub untracked: bool,
}

/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `NF_CT_STATE_BIT(IP_CT_NEW)` and `NF_CT_STATE_UNTRACKED_BIT`.
const NEW: u32 = 8;
const UNTRACKED: u32 = 64;
/// `RTN_UNICAST` and `RTN_LOCAL`.
const UNICAST: u32 = 1;
const LOCAL: u32 = 2;
/// `IFNAMSIZ`.
const NAME: usize = 16;
/// A port that no service has.
const SOURCE_PORT: u16 = 61_003;

/// Bytes of which some are not known.
pub(super) type Bytes = Vec<Option<u8>>;

/// A packet at one hook.
pub(super) struct At<'a> {
    packet: &'a Packet,
    hook: Hook,
}

impl Packet {
    pub(super) const fn passes(&self, hook: Hook) -> bool {
        match self.path {
            Path::In => matches!(hook, Hook::Prerouting | Hook::Input),
            Path::Out => matches!(hook, Hook::Output | Hook::Postrouting),
            Path::Through => matches!(hook, Hook::Prerouting | Hook::Forward | Hook::Postrouting),
        }
    }

    pub(super) const fn at(&self, hook: Hook) -> At<'_> {
        At { packet: self, hook }
    }
}

impl At<'_> {
    /// `NFT_META_…`.
    pub(super) fn meta(&self, key: u32) -> Option<Bytes> {
        let packet = self.packet;
        let by = packet.by.as_ref().filter(|_| self.hook != Hook::Output && self.hook != Hook::Postrouting);
        // Where a forwarded packet came by is known behind the routing too.
        let by = by.or_else(|| packet.by.as_ref().filter(|_| packet.path == Path::Through));
        let to = packet.to.as_ref().filter(|_| self.hook != Hook::Prerouting);
        Some(match key {
            1 => known(&if packet.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] }),
            3 => known(&[0; 4]),
            4 => index(by),
            5 => index(to),
            6 => name(by),
            7 => name(to),
            15 => known(&[if packet.source.is_ipv4() { super::IPV4 } else { super::IPV6 }]),
            16 => known(&[packet.protocol]),
            19 => known(&[0]),
            _ => return None,
        })
    }

    /// Bytes of the network header (1) or the transport header (2).
    pub(super) fn payload(&self, base: u32, offset: usize, length: usize) -> Option<Bytes> {
        let header = match base {
            1 => self.network(),
            2 => self.transport(),
            _ => return None,
        };
        header.get(offset..offset.checked_add(length)?).map(<[Option<u8>]>::to_vec)
    }

    fn network(&self) -> Bytes {
        let packet = self.packet;
        let unknown = |count: usize| vec![None; count];
        let source = |octets: &[u8]| if packet.source_is_known { known(octets) } else { unknown(octets.len()) };
        match (packet.source, packet.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => [
                known(&[0x45, 0]),
                unknown(4),
                known(&[0, 0, 64, packet.protocol]),
                unknown(2),
                source(&from.octets()),
                known(&to.octets()),
            ]
            .concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [
                known(&[0x60, 0, 0, 0]),
                unknown(2),
                known(&[packet.protocol, 64]),
                source(&from.octets()),
                known(&to.octets()),
            ]
            .concat(),
            _ => Bytes::new(),
        }
    }

    fn transport(&self) -> Bytes {
        let ports = [SOURCE_PORT.to_be_bytes(), self.packet.port.to_be_bytes()].concat();
        // A SYN without options; the checksum is anything.
        let rest = if self.packet.protocol == TCP {
            [known(&[0; 8]), known(&[0x50, 2]), vec![None; 6]].concat()
        } else {
            vec![None; 4]
        };
        [known(&ports), rest].concat()
    }

    /// The ports, source first.
    pub(super) const fn ports(&self) -> [u16; 2] {
        [SOURCE_PORT, self.packet.port]
    }

    /// `IPPROTO_…`.
    pub(super) const fn protocol(&self) -> u8 {
        self.packet.protocol
    }

    /// `NFT_CT_…`, in the direction of the connection's first packet.
    pub(super) fn connection(&self, key: u32) -> Option<Bytes> {
        match key {
            0 => Some(known(&self.state().to_ne_bytes())),
            1 => Some(known(&[0])),
            2 | 3 => Some(known(&[0; 4])),
            _ => None,
        }
    }

    /// The bit of the connection's state.
    pub(super) const fn state(&self) -> u32 {
        if self.packet.untracked { UNTRACKED } else { NEW }
    }

    /// The kind of the source or the destination, as `fib` tells it.
    pub(super) const fn address_type(&self, of_source: bool) -> u32 {
        match (self.packet.path, of_source) {
            (Path::In, false) | (Path::Out, true) => LOCAL,
            _ => UNICAST,
        }
    }
}

/// Bytes all of which are known.
pub(super) fn known(bytes: &[u8]) -> Bytes {
    bytes.iter().copied().map(Some).collect()
}

/// A link's name in a register: filled up with zeros, all of them where there is no link.
fn name(link: Option<&(String, Option<u32>)>) -> Bytes {
    let mut bytes = link.map(|(name, _)| name.clone().into_bytes()).unwrap_or_default();
    bytes.resize(NAME, 0);
    known(&bytes)
}

fn index(link: Option<&(String, Option<u32>)>) -> Bytes {
    match link {
        Some((_, index)) => index.map_or_else(|| vec![None; 4], |index| known(&index.to_ne_bytes())),
        None => known(&[0; 4]),
    }
}
