//! Forwarding entries of the tunnel device as messages (AF_BRIDGE neighbours, drivers/net/vxlan/vxlan_core.c).
//!
//! Must never set or remove one of another device.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};
use weft_core::{
    kernel::{Seen, Value},
    types::Mac,
};

use super::wire::{attributes, ip, mac, u16_at, u32_at};

/// Length of `struct ndmsg`.
pub(super) const HEADER: usize = 12;
pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NUD_PERMANENT: u16 = 0x80;
const NUD_NOARP: u16 = 0x40;

/// An entry. (A unicast MAC never has several remotes: the kernel appends to none but zero and multicast ones, which no VTEP
/// has.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) link: u32,
    pub(super) mac: Mac,
    /// The underlay address that it leads to; none if it leads elsewhere, such as to a nexthop group or another port.
    pub(super) remote: Option<IpAddr>,
}

impl Entry {
    /// Reads RTM_NEWNEIGH or RTM_DELNEIGH of family AF_BRIDGE. None for entries that no MAC of a VTEP has.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let link = u32_at(payload, 4)?;
        let state = u16_at(payload, 8)?;
        let (mut address, mut remote, mut more) = (None, None, false);
        for (kind, value) in attributes(payload, HEADER) {
            match kind {
                NDA_LLADDR => address = mac(value),
                NDA_DST => remote = ip(value),
                NDA_PORT | NDA_VNI | NDA_IFINDEX | NDA_NH_ID => more = true,
                _ => {}
            }
        }
        let permanent = state & (NUD_PERMANENT | NUD_NOARP) != 0;
        Some(Self { link, mac: address?, remote: remote.filter(|_| permanent && !more) })
    }

    /// As an object. The kernel does not turn every other kind of entry into ours in place.
    pub(super) fn seen(&self) -> Seen {
        self.remote.map_or(Seen::Altered { in_place: false }, |remote| Seen::As(Value::Fdb(remote)))
    }
}

/// The kernel tells these only where they differ from the device's own (`vxlan_fdb_info`).
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_IFINDEX: u16 = 8;
const NDA_NH_ID: u16 = 13;

fn message(link: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    message
}

fn entry(link: u32, mac: Mac) -> NeighbourMessage {
    let mut message = message(link);
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()));
    message
}

/// All entries of a device; strict checking makes the kernel heed the index.
pub(super) fn dump(link: u32) -> Message {
    Message::GetNeighbour(message(link))
}

/// One entry.
pub(super) fn get(link: u32, mac: Mac) -> Message {
    Message::GetNeighbour(entry(link, mac))
}

/// Leads a MAC to an underlay address.
pub(super) fn put(link: u32, mac: Mac, remote: IpAddr) -> Message {
    let mut message = entry(link, mac);
    message.header.state = NeighbourState::Other(NUD_PERMANENT | NUD_NOARP);
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::from(remote)));
    Message::NewNeighbour(message)
}

/// Removes an entry with all its remotes.
pub(super) fn delete(link: u32, mac: Mac) -> Message {
    Message::DelNeighbour(entry(link, mac))
}
