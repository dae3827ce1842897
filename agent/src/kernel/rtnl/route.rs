//! Routes as messages (rtnetlink(7)).
//!
//! Owns the mark on them: protocol 87 in table main. Must never replace or remove one that lacks it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
        RouteType,
    },
};
use weft_core::{
    kernel::{Key, PROTOCOL, Route, Seen, Stray, Value, Via},
    types::{Family, LinkName},
};

use super::{
    family,
    wire::{attributes, ip, nested, number},
};

/// Length of `struct rtmsg`.
const HEADER: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_FLOW: u16 = 11;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTN_UNREACHABLE: u8 = 7;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// RTPROT_KERNEL.
const KERNEL: u8 = 2;
/// RTPROT_RA: learnt from a router advertisement.
const RA: u8 = 9;
/// RT_TABLE_MAIN.
const MAIN: u32 = 254;

/// A route as far as it concerns us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) to: IpNetwork,
    pub(super) metric: u32,
    /// In table main, of no particular type of service: it is where ours could be.
    pub(super) in_main: bool,
    protocol: u8,
    kind: u8,
    pub(crate) link: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
    nexthop: Option<u32>,
    mtu: Option<u32>,
    pub(super) source: Option<IpAddr>,
    altered: bool,
}

impl Found {
    /// Reads RTM_NEWROUTE or RTM_DELROUTE. None for families other than IPv4 and IPv6.
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let [family, prefix, source_prefix, tos, table, protocol, _, kind, ..] = *payload else { return None };
        let mut to: IpAddr = match family {
            AF_INET => [0; 4].into(),
            AF_INET6 => [0; 16].into(),
            _ => return None,
        };
        let (mut table, mut metric, mut mtu) = (u32::from(table), 0, None);
        let (mut link, mut gateway, mut nexthop, mut source, mut altered) =
            (None, None, None, None, source_prefix != 0);
        for (kind, value) in attributes(payload, HEADER) {
            match kind {
                RTA_DST => to = ip(value)?,
                RTA_OIF => link = number(value),
                RTA_GATEWAY => gateway = ip(value),
                RTA_PRIORITY => metric = number(value)?,
                RTA_PREFSRC => source = ip(value),
                RTA_TABLE => table = number(value)?,
                RTA_NH_ID => nexthop = number(value),
                RTA_METRICS => altered |= metrics(value, &mut mtu),
                RTA_MULTIPATH | RTA_FLOW | RTA_VIA | RTA_ENCAP => altered = true,
                _ => {}
            }
        }
        let to = IpNetwork::new(to, prefix).ok()?;
        let in_main = table == MAIN && tos == 0;
        Some(Self { to, metric, in_main, protocol, kind, link, gateway, nexthop, mtu, source, altered })
    }

    /// It carries our protocol.
    pub(super) const fn marked(&self) -> bool {
        self.protocol == PROTOCOL
    }

    /// What it is if it leads by the tunnel device `device` without being ours. None for what is there by itself: the prefix of
    /// an address goes with it. None, too, for what names no protocol: it could not be told from ours in a deletion.
    pub(super) fn stray(&self, device: u32, name: impl Fn(u32) -> Option<LinkName>) -> Option<(Key, Seen)> {
        let is_stray = self.in_main && self.link == Some(device) && !matches!(self.protocol, PROTOCOL | KERNEL | 0);
        let key = Key::Stray(Stray::Route(self.to, self.metric, self.protocol));
        is_stray.then(|| (key, self.seen(name)))
    }

    /// Its destination is this host.
    pub(super) const fn is_local(&self) -> bool {
        self.kind == RTN_LOCAL
    }

    /// It leads somewhere.
    pub(super) const fn is_unicast(&self) -> bool {
        self.kind == RTN_UNICAST
    }

    /// The kernel made it from a router advertisement, or someone did on the kernel's behalf.
    pub(super) const fn by_router_advertisement(&self) -> bool {
        self.protocol == RA
    }

    /// A default route, or the prefix of an address: where the underlay may be told from.
    pub(super) fn names_underlay(&self) -> bool {
        self.to.prefix() == 0 || self.protocol == KERNEL || self.protocol == RA
    }

    /// As an object; `name` names links. One that says more, or other things, than a [`Route`] can is replaced in place.
    pub(super) fn seen(&self, name: impl Fn(u32) -> Option<LinkName>) -> Seen {
        let route = self.via(name).map(|via| Route { via, mtu: self.mtu, src: self.source });
        route.filter(|_| !self.altered).map_or(Seen::Altered { in_place: true }, |route| Seen::As(Value::Route(route)))
    }

    fn via(&self, name: impl Fn(u32) -> Option<LinkName>) -> Option<Via> {
        let link = self.link.and_then(name);
        match (self.kind, self.nexthop, self.gateway, link) {
            (RTN_UNREACHABLE, None, None, _) => Some(Via::Unreachable),
            (RTN_UNICAST, Some(id), ..) => Some(Via::Nexthop(id)),
            (RTN_UNICAST, None, Some(gateway), Some(link)) => Some(Via::Gateway(gateway, link)),
            (RTN_UNICAST, None, None, Some(link)) => Some(Via::Link(link)),
            _ => None,
        }
    }
}

/// Reads RTA_METRICS; true if there is another than the MTU.
fn metrics(value: &[u8], mtu: &mut Option<u32>) -> bool {
    let mut more = false;
    for (kind, value) in nested(value) {
        match kind {
            RTAX_MTU => *mtu = number(value).filter(|mtu| *mtu != 0),
            _ => more = true,
        }
    }
    more
}

/// Our routes of a family, or with `protocol` none all of table main; strict checking makes the kernel heed both.
pub(super) fn dump(of: Family, protocol: Option<u8>) -> Message {
    let mut message = RouteMessage::default();
    message.header.address_family = family(of);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
    Message::GetRoute(message)
}

/// Routes of table main that lead by `link`.
pub(super) fn dump_by(of: Family, link: u32) -> Message {
    let Message::GetRoute(mut message) = dump(of, None) else { unreachable!("made just above") };
    message.attributes = vec![RouteAttribute::Oif(link)];
    Message::GetRoute(message)
}

/// True for a message of a route of ours, told without reading it.
pub(super) fn is_ours(payload: &[u8]) -> bool {
    payload.get(5) == Some(&PROTOCOL)
}

/// Routes learnt from router advertisements.
pub(super) fn dump_advertised() -> Message {
    let mut message = RouteMessage::default();
    message.header.address_family = family(Family::V6);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Ra;
    Message::GetRoute(message)
}

/// Which way packets to an address take.
pub(super) fn lookup(to: IpAddr) -> Message {
    let mut message = RouteMessage::default();
    message.header.address_family = family(Family::of(to));
    message.header.destination_prefix_length = Family::of(to).bits();
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::from(to))];
    Message::GetRoute(message)
}

/// Which entry of which table says so.
pub(super) fn lookup_entry(to: IpAddr) -> Message {
    let Message::GetRoute(mut message) = lookup(to) else { unreachable!("made just above") };
    // IPv6 always tells the table, and refuses to be asked.
    let table = if to.is_ipv4() { RouteFlags::LookupTable } else { RouteFlags::empty() };
    message.header.flags = RouteFlags::FibMatch | table;
    Message::GetRoute(message)
}

fn route(to: IpNetwork, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(Family::of(to.ip())),
        destination_prefix_length: to.prefix(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(PROTOCOL),
        ..RouteHeader::default()
    };
    message.attributes =
        vec![RouteAttribute::Destination(RouteAddress::from(to.ip())), RouteAttribute::Priority(metric)];
    message
}

/// Sets a route; `link` is the index of the link it names, `over` says that it replaces what is there.
pub(super) fn put(to: IpNetwork, metric: u32, value: &Route, link: u32, over: bool) -> Message {
    let mut message = route(to, metric);
    message.header.scope = if matches!(value.via, Via::Link(_)) { RouteScope::Link } else { RouteScope::Universe };
    message.header.kind = kind(value.via);
    match value.via {
        Via::Nexthop(id) => message.attributes.push(RouteAttribute::NhId(id)),
        Via::Gateway(gateway, _) => {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
            message.attributes.push(RouteAttribute::Oif(link));
        }
        Via::Link(_) => message.attributes.push(RouteAttribute::Oif(link)),
        Via::Unreachable => {}
    }
    // Asked for an IPv4 route through a nexthop object without metrics, the kernel takes what it has for the same object
    // with any metrics (`fib_find_info_nh` in net/ipv4/fib_semantics.c): the MTU would never go. An empty list is one.
    let through_nexthop = matches!(value.via, Via::Nexthop(_)) && to.is_ipv4();
    if value.mtu.is_some() || (over && through_nexthop) {
        message.attributes.push(RouteAttribute::Metrics(value.mtu.map(RouteMetric::Mtu).into_iter().collect()));
    }
    message.attributes.extend(value.src.map(|source| RouteAttribute::PrefSource(RouteAddress::from(source))));
    Message::NewRoute(message)
}

/// Removes somebody else's route by `link`. The protocol keeps the kernel from taking ours in the same place for it, and
/// routes through nexthop objects are not found by a link (`fib_nh_match` in net/ipv4/fib_semantics.c).
pub(super) fn delete_stray(to: IpNetwork, metric: u32, protocol: u8, old: &Seen, link: u32) -> Message {
    let mut message = route(to, metric);
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = RouteType::Unspec;
    message.header.protocol = RouteProtocol::from(protocol);
    message.attributes.push(match old {
        Seen::As(Value::Route(Route { via: Via::Nexthop(id), .. })) => RouteAttribute::NhId(*id),
        _ => RouteAttribute::Oif(link),
    });
    Message::DelRoute(message)
}

/// Removes a route of ours. Its kind is named if it is known: an IPv4 metric of 0 means "any" there.
pub(super) fn delete(to: IpNetwork, metric: u32, old: &Seen) -> Message {
    let mut message = route(to, metric);
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = match old {
        Seen::As(Value::Route(route)) => kind(route.via),
        _ => RouteType::Unspec,
    };
    Message::DelRoute(message)
}

fn kind(via: Via) -> RouteType {
    if via == Via::Unreachable { RouteType::Unreachable } else { RouteType::Unicast }
}
