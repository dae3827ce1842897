//! Neighbours (ARP and ND entries) as messages (include/uapi/linux/neighbour.h).
//!
//! Must never take an entry that is not permanent for one of ours.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};
use weft_core::types::Mac;

use super::{
    fdb::{HEADER, NDA_DST, NDA_LLADDR, NUD_PERMANENT},
    wire::{attributes, ip, mac, u16_at, u32_at},
};

/// NTF_PROXY: an entry of another table.
const PROXY: u8 = 1 << 3;

/// A neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    /// Where it is permanent.
    pub(crate) mac: Option<Mac>,
}

impl Neighbour {
    /// Reads RTM_NEWNEIGH or RTM_DELNEIGH of an IP family.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let link = u32_at(payload, 4)?;
        let state = u16_at(payload, 8)?;
        if payload.get(10)? & PROXY != 0 {
            return None;
        }
        let (mut address, mut hardware) = (None, None);
        for (kind, value) in attributes(payload, HEADER) {
            match kind {
                NDA_DST => address = ip(value),
                NDA_LLADDR => hardware = mac(value),
                _ => {}
            }
        }
        Some(Self { link, address: address?, mac: hardware.filter(|_| state & NUD_PERMANENT != 0) })
    }
}

/// Neighbours of both families, of one link or of all.
pub(super) fn dump(link: Option<u32>) -> Message {
    let mut message = NeighbourMessage::default();
    message.attributes.extend(link.map(NeighbourAttribute::IfIndex));
    Message::GetNeighbour(message)
}

fn entry(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = link;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(address)));
    message
}

/// One neighbour.
pub(super) fn get(link: u32, address: IpAddr) -> Message {
    Message::GetNeighbour(entry(link, address))
}

/// Sets a permanent neighbour.
pub(super) fn put(link: u32, address: IpAddr, mac: Mac) -> Message {
    let mut message = entry(link, address);
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::empty();
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    Message::NewNeighbour(message)
}

/// Removes a neighbour.
pub(super) fn delete(link: u32, address: IpAddr) -> Message {
    Message::DelNeighbour(entry(link, address))
}
