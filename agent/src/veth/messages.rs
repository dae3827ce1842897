//! The messages that wire a pod.

use std::{net::IpAddr, os::fd::RawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage,
    },
    neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use weft_core::{kernel::ALIAS, types::Mac};

use super::{Pair, client::Request};

/// `RT_TABLE_LOCAL` (include/uapi/linux/rtnetlink.h).
const LOCAL_TABLE: u8 = 255;

/// A link message that names its link.
pub(super) fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

/// The veth pair, with the pod's end directly in the pod's namespace. One queue each: a pod's traffic is spread by
/// flow on the host, and a queue for each processor costs memory for each pod.
pub(super) fn create_veth(pair: &Pair, netns: RawFd) -> Request {
    let end = |name: &str, mac: Mac| {
        let mut message = named(name);
        message.attributes.extend([
            LinkAttribute::Address(mac.octets().to_vec()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
        ]);
        message
    };
    let mut pod = end(pair.interface.as_str(), pair.pod_mac);
    pod.attributes.push(LinkAttribute::NetNsFd(netns));
    let mut host = end(pair.link.as_str(), pair.host_mac);
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(pod))),
    ]));
    Request {
        what: format!("create veth pair {} and, in the pod, {}", pair.link, pair.interface),
        message: RouteNetlinkMessage::NewLink(host),
        flags: NLM_F_CREATE | NLM_F_EXCL,
    }
}

/// Marks the host's end as ours and sets it up. It gets no link-local address: it needs none, since the pod's
/// neighbours are permanent, and none means no service of the host listens towards the pod through it.
pub(super) fn host_up(pair: &Pair, ipv6: bool) -> Request {
    let mut message = named(pair.link.as_str());
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::IfAlias(ALIAS.to_owned()));
    if ipv6 {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    }
    Request { what: format!("set {} up", pair.link), message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

/// Deletes a link; of a pair both ends go.
pub(crate) fn delete(name: &str) -> Request {
    Request { what: format!("delete {name}"), message: RouteNetlinkMessage::DelLink(named(name)), flags: 0 }
}

/// Deletes a link by index, so that another one that got its name meanwhile stays.
pub(crate) fn delete_at(index: u32, name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    Request { what: format!("delete {name}"), message: RouteNetlinkMessage::DelLink(message), flags: 0 }
}

/// Sets the MTU of a link, in bytes.
pub(crate) fn mtu(index: u32, name: &str, mtu: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::Mtu(mtu));
    Request {
        what: format!("set the MTU of {name} to {mtu}"),
        message: RouteNetlinkMessage::SetLink(message),
        flags: 0,
    }
}

/// Sets a link up.
pub(super) fn up(name: &str) -> Request {
    let mut message = named(name);
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    Request { what: format!("set {name} up"), message: RouteNetlinkMessage::SetLink(message), flags: 0 }
}

/// An address as a whole host; IPv6 without duplicate address detection, so that it is usable at once.
pub(super) fn address(index: u32, address: IpAddr) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = bits(address);
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.attributes.extend([AddressAttribute::Local(address), AddressAttribute::Address(address)]);
    if address.is_ipv6() {
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    Request {
        what: format!("add address {address}"),
        message: RouteNetlinkMessage::NewAddress(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

/// The gateway as a permanent neighbour.
pub(super) fn neighbour(index: u32, address: IpAddr, mac: Mac) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes.extend([
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.octets().to_vec()),
    ]);
    Request {
        what: format!("add neighbour {address}"),
        message: RouteNetlinkMessage::NewNeighbour(message),
        flags: NLM_F_CREATE | NLM_F_REPLACE,
    }
}

/// The route to the gateway itself, on the link.
pub(super) fn gateway_route(index: u32, gateway: IpAddr) -> Request {
    let mut message = route(index, gateway);
    message.header.destination_prefix_length = bits(gateway);
    message.header.scope = RouteScope::Link;
    message.attributes.push(RouteAttribute::Destination(gateway.into()));
    added_route(format!("add route to gateway {gateway}"), message)
}

/// The default route.
pub(super) fn default_route(index: u32, gateway: IpAddr) -> Request {
    let mut message = route(index, gateway);
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    added_route(format!("add default route via {gateway}"), message)
}

fn route(index: u32, of: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(of);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

fn added_route(what: String, message: RouteMessage) -> Request {
    Request { what, message: RouteNetlinkMessage::NewRoute(message), flags: NLM_F_CREATE | NLM_F_EXCL }
}

/// The route that makes packets to `address` the pod's own; it takes them also before the kernel's own route is there.
pub(super) fn local_route(index: u32, address: IpAddr) -> Request {
    let mut message = route(index, address);
    message.header.table = LOCAL_TABLE;
    message.header.kind = RouteType::Local;
    message.header.scope = RouteScope::Host;
    message.header.destination_prefix_length = bits(address);
    message.attributes.push(RouteAttribute::Destination(address.into()));
    added_route(format!("add the local route of {address}"), message)
}

/// The family's number.
pub(super) const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
