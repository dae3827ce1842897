//! Nexthop objects as messages (include/uapi/linux/nexthop.h), which the packet crate does not have.
//!
//! Owns the mark on them: protocol 87 and the id range. Must never touch one that lacks either.

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Emitable, NetlinkSerializable};
use weft_core::kernel::{PROTOCOL, Seen, Value};

use super::wire::{attributes, ip, number, u32_at};

pub(super) const RTM_NEWNEXTHOP: u16 = 104;
pub(super) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
/// Length of `struct nhmsg`.
const HEADER: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
const RTNH_F_ONLINK: u32 = 4;
const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A request about nexthops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// All of them.
    Dump,
    /// One, by id.
    Get(u32),
    /// An onlink gateway on a link.
    New { id: u32, link: u32, gateway: IpAddr },
    /// Removes one, and the kernel removes the routes through it.
    Delete(u32),
}

impl Request {
    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        if let Self::New { gateway, .. } = self {
            header[0] = if gateway.is_ipv4() { AF_INET } else { AF_INET6 };
            header[2] = PROTOCOL;
            header[4..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
        } else {
            header[0] = AF_UNSPEC;
        }
        header
    }

    fn attributes(&self) -> Vec<DefaultNla> {
        let number = |kind, value: u32| DefaultNla::new(kind, value.to_ne_bytes().to_vec());
        match self {
            Self::Dump => Vec::new(),
            Self::Get(id) | Self::Delete(id) => vec![number(NHA_ID, *id)],
            Self::New { id, link, gateway } => {
                let gateway = match gateway {
                    IpAddr::V4(gateway) => gateway.octets().to_vec(),
                    IpAddr::V6(gateway) => gateway.octets().to_vec(),
                };
                vec![number(NHA_ID, *id), number(NHA_OIF, *link), DefaultNla::new(NHA_GATEWAY, gateway)]
            }
        }
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        match self {
            Self::Dump | Self::Get(_) => RTM_GETNEXTHOP,
            Self::New { .. } => RTM_NEWNEXTHOP,
            Self::Delete(_) => RTM_DELNEXTHOP,
        }
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes().as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..HEADER].copy_from_slice(&self.header());
        self.attributes().as_slice().emit(&mut buffer[HEADER..]);
    }
}

/// A nexthop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Nexthop {
    pub(super) id: u32,
    /// It carries our protocol.
    pub(super) marked: bool,
    pub(super) link: Option<u32>,
    kind: Kind,
}

/// What a nexthop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An onlink gateway.
    Onlink(IpAddr),
    /// Something else that the kernel turns into one in place.
    Single,
    /// A group or an FDB nexthop, which the kernel turns into nothing else.
    Other,
}

impl Nexthop {
    /// Reads RTM_NEWNEXTHOP or RTM_DELNEXTHOP.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let protocol = *payload.get(2)?;
        let onlink = u32_at(payload, 4)? & RTNH_F_ONLINK != 0;
        let (mut id, mut link, mut gateway, mut altered, mut other) = (None, None, None, !onlink, false);
        for (kind, value) in attributes(payload, HEADER) {
            match kind {
                NHA_ID => id = number(value),
                NHA_OIF => link = number(value),
                NHA_GATEWAY => gateway = ip(value),
                NHA_BLACKHOLE | NHA_ENCAP => altered = true,
                NHA_GROUP | NHA_FDB => other = true,
                _ => {}
            }
        }
        let kind = match gateway {
            _ if other => Kind::Other,
            Some(gateway) if !altered => Kind::Onlink(gateway),
            _ => Kind::Single,
        };
        Some(Self { id: id?, marked: protocol == PROTOCOL, link, kind })
    }

    /// As an object, if `device` is the index of the tunnel device.
    pub(super) fn seen(&self, device: Option<u32>) -> Seen {
        match self.kind {
            Kind::Onlink(gateway) if self.link.is_some() && self.link == device => Seen::As(Value::Nexthop(gateway)),
            Kind::Onlink(_) | Kind::Single => Seen::Altered { in_place: true },
            Kind::Other => Seen::Altered { in_place: false },
        }
    }
}
