//! Addresses of links as messages (include/uapi/linux/if_addr.h).
//!
//! Must never touch an address of another link than the tunnel device.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressFlags, AddressMessage},
};
use weft_core::{
    kernel::{Key, Seen, Stray, Value},
    types::Family,
};

use super::{
    family,
    wire::{attributes, ip, number, u32_at},
};

/// Length of `struct ifaddrmsg`.
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;
/// `IFAPROT_KERNEL_RA`: made by the kernel from a router advertisement (since Linux 5.18).
const IFAPROT_KERNEL_RA: u8 = 2;
/// RT_SCOPE_UNIVERSE.
const UNIVERSE: u8 = 0;

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) link: u32,
    pub(crate) address: IpAddr,
    /// The on-link prefix; a whole host where the address names a peer of its own.
    pub(super) prefix: u8,
    /// The peer that it names, else itself, with the prefix that the kernel tells.
    pub(super) of: IpNetwork,
    pub(crate) flags: AddressFlags,
    /// Of scope universe.
    pub(super) global: bool,
    /// Made from a router advertisement by the kernel.
    pub(super) by_router_advertisement: bool,
}

impl Address {
    /// Reads RTM_NEWADDR or RTM_DELADDR.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let [_, prefix, flags, scope, ..] = *payload else { return None };
        let link = u32_at(payload, 4)?;
        let (mut remote, mut local, mut flags, mut protocol) = (None, None, u32::from(flags), 0);
        for (kind, value) in attributes(payload, HEADER) {
            match kind {
                IFA_ADDRESS => remote = ip(value),
                IFA_LOCAL => local = ip(value),
                IFA_FLAGS => flags = number(value)?,
                IFA_PROTO => protocol = value.first().copied().unwrap_or_default(),
                _ => {}
            }
        }
        let address = local.or(remote)?;
        let remote = remote.unwrap_or(address);
        let with_peer = remote != address;
        Some(Self {
            link,
            address,
            of: IpNetwork::new(remote, prefix).ok()?,
            prefix: if with_peer { Family::of(address).bits() } else { prefix },
            flags: AddressFlags::from_bits_retain(flags),
            global: scope == UNIVERSE,
            by_router_advertisement: protocol == IFAPROT_KERNEL_RA,
        })
    }

    /// What it is on the tunnel device. A VTEP address is a whole host for ever.
    pub(super) fn on_device(&self) -> (Key, Seen) {
        let is_host = self.of == IpNetwork::from(self.address);
        match self.flags.contains(AddressFlags::Permanent) {
            _ if !is_host => (Key::Stray(Stray::Address(self.address, self.of)), Seen::As(Value::Present)),
            true => (Key::Address(self.address), Seen::As(Value::Present)),
            // There for a while only, as a DHCP client sets it.
            false => (Key::Address(self.address), Seen::Altered { in_place: true }),
        }
    }
}

/// Addresses of a family, of one link or (0) of all.
pub(super) fn dump(of: Family, link: u32) -> Message {
    let mut message = AddressMessage::default();
    message.header.family = family(of);
    message.header.index = link;
    Message::GetAddress(message)
}

fn host(link: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = Family::of(address).bits();
    message.header.index = link;
    message.attributes = vec![AddressAttribute::Address(address), AddressAttribute::Local(address)];
    message
}

/// A VTEP address: no duplicate detection (nobody else can have it), no route beside the local one.
pub(super) fn put(link: u32, address: IpAddr) -> Message {
    let mut message = host(link, address);
    let flags = match address {
        IpAddr::V4(_) => AddressFlags::Noprefixroute,
        IpAddr::V6(_) => AddressFlags::Noprefixroute | AddressFlags::Nodad,
    };
    message.attributes.push(AddressAttribute::Flags(flags));
    Message::NewAddress(message)
}

/// Removes a VTEP address.
pub(super) fn delete(link: u32, address: IpAddr) -> Message {
    Message::DelAddress(host(link, address))
}

/// Removes somebody else's address; its peer and prefix keep the kernel from taking another with the same address for it.
pub(super) fn delete_stray(link: u32, address: IpAddr, of: IpNetwork) -> Message {
    let mut message = host(link, address);
    message.header.prefix_len = of.prefix();
    message.attributes = vec![AddressAttribute::Address(of.ip()), AddressAttribute::Local(address)];
    Message::DelAddress(message)
}
