//! Addresses, neighbours, forwarding entries, nexthops and routes: each of Weft's on a node, deleted and altered.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Hand, Row};
use crate::drift::{
    attributes::{Message, attributes, find, number, shown, text},
    netlink::{CREATE, Netlink, REPLACE, Request},
};

const GETLINK: u16 = 18;
const DELADDR: u16 = 21;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const GETROUTE: u16 = 26;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
const GETNEIGH: u16 = 30;
const NEWNEXTHOP: u16 = 104;
const DELNEXTHOP: u16 = 105;
const GETNEXTHOP: u16 = 106;
const NDMSG: usize = 12;
const RTMSG: usize = 12;
const NHMSG: usize = 8;
const IFADDR: usize = 8;
const AF_BRIDGE: u8 = 7;
const AF_INET: u8 = 2;
const PROTOCOL: u8 = 87;
const STATIC: u8 = 4;
const TABLE_MAIN: u8 = 254;
const BLACKHOLE: u8 = 6;
const STALE: u16 = 4;
const PERMANENT: u16 = 0x80;
const ONLINK: u32 = 4;
/// A MAC and addresses that nobody has.
const NOBODY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];
const NOBODY_V4: [u8; 4] = [192, 0, 2, 66];
const NOBODY_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66];

/// The links of a node by index.
pub(crate) fn links(socket: &Netlink) -> Result<BTreeMap<u32, String>> {
    let found = socket.dump(GETLINK, &[0; 16])?;
    Ok(found.iter().filter_map(|link| Some((number(link.get(4..)?)?, text(find(link, 16, 3)?)))).collect())
}

/// Every object of Weft's on the node, deleted and altered, a row each.
pub(crate) fn rows(socket: &Netlink) -> Result<Vec<Row>> {
    let links = links(socket)?;
    let ours = |payload: &[u8]| {
        let name = payload.get(4..).and_then(number).and_then(|index| links.get(&index));
        name.filter(|name| *name == "weft0" || name.starts_with("wpod")).cloned()
    };
    let mut rows = Vec::new();
    for payload in socket.dump(GETADDR, &[0; IFADDR])? {
        rows.extend(ours(&payload).filter(|name| name == "weft0").map(|_| address(&payload)));
    }
    let mut bridge = [0; NDMSG];
    bridge[0] = AF_BRIDGE;
    for payload in socket.dump(GETNEIGH, &bridge)? {
        if ours(&payload).is_some_and(|name| name == "weft0") {
            rows.extend(entry(&payload));
        }
    }
    for payload in socket.dump(GETNEIGH, &[0; NDMSG])? {
        let permanent = u16::from_ne_bytes([payload[8], payload[9]]) & PERMANENT != 0;
        if let Some(link) = ours(&payload).filter(|_| permanent) {
            rows.extend(neighbour(&payload, &link));
        }
    }
    for payload in socket.dump(GETNEXTHOP, &[0; NHMSG])?.iter().filter(|payload| payload[2] == PROTOCOL) {
        rows.extend(nexthop(payload));
    }
    let ours = |payload: &&Vec<u8>| payload[5] == PROTOCOL && payload[4] == TABLE_MAIN;
    for payload in socket.dump(GETROUTE, &[0; RTMSG])?.iter().filter(ours) {
        rows.extend(route(payload));
    }
    Ok(rows)
}

/// Objects on Weft's own device, or with its marks, that nobody should need.
pub(crate) fn additions(socket: &Netlink) -> Result<Vec<Row>> {
    let links = links(socket)?;
    let device = links.iter().find(|(_, name)| *name == "weft0").map_or(0, |(index, _)| *index);
    let on_device = |family: u8, state: u16, flags: u8| {
        let mut header = [0; NDMSG];
        header[0] = family;
        header[4..8].copy_from_slice(&device.to_ne_bytes());
        header[8..10].copy_from_slice(&state.to_ne_bytes());
        header[10] = flags;
        Message::new(&header)
    };
    let entry = on_device(AF_BRIDGE, PERMANENT, 2).add(2, &NOBODY_MAC).add(1, &NOBODY_V4);
    let neighbour = on_device(AF_INET, PERMANENT, 0).add(1, &NOBODY_V4).add(2, &NOBODY_MAC);
    let nexthop = Message::new(&[AF_INET, 0, PROTOCOL, 0, 4, 0, 0, 0])
        .number(1, 0x5746_0001)
        .number(5, device)
        .add(6, &NOBODY_V4);
    let header = [AF_INET, 24, 0, 0, TABLE_MAIN, PROTOCOL, 0, BLACKHOLE, 0, 0, 0, 0];
    let route = Message::new(&header).add(1, &[10, 244, 99, 0]).number(6, 0);
    let mut header = vec![AF_INET, 32, 0x80, 0];
    header.extend(device.to_ne_bytes());
    let address = Message::new(&header).add(2, &[10, 244, 99, 1]).add(1, &[10, 244, 99, 1]);
    Ok(vec![
        change("FDB entry added to the device", NEWNEIGH, CREATE, entry),
        change("neighbour added to the device", NEWNEIGH, CREATE, neighbour),
        change("address added to the device", 20, CREATE, address),
        change("nexthop with Weft's marks added", NEWNEXTHOP, CREATE, nexthop),
        change("route with Weft's mark added", NEWROUTE, CREATE, route),
    ])
}

/// What a DHCP client or a routing daemon puts onto Weft's own device, and that is not marked as Weft's.
pub(crate) fn strays(socket: &Netlink) -> Result<Vec<Row>> {
    const NEWADDR: u16 = 20;
    const AF_INET6: u8 = 10;
    const DHCP: u8 = 16;
    const BIRD: u8 = 12;
    const UNICAST: u8 = 1;
    const LINK: u8 = 253;
    const CACHE_INFO: u16 = 6;
    let links = links(socket)?;
    let device = links.iter().find(|(_, name)| *name == "weft0").map_or(0, |(index, _)| *index);
    let address = |family: u8, prefix: u8, of: &[u8], own: &[u8]| {
        let mut header = vec![family, prefix, 0, 0];
        header.extend(device.to_ne_bytes());
        Message::new(&header).add(2, own).add(1, of)
    };
    // struct ifa_cacheinfo: preferred and valid for ten minutes, made and changed now.
    let lease: Vec<u8> = [600_u32, 600, 0, 0].iter().flat_map(|number| number.to_ne_bytes()).collect();
    let route = |family: u8, prefix: u8, protocol: u8, to: &[u8], metric: u32| {
        let scope = if family == AF_INET { LINK } else { 0 };
        let header = [family, prefix, 0, 0, TABLE_MAIN, protocol, scope, UNICAST, 0, 0, 0, 0];
        let message = Message::new(&header).number(4, device).number(6, metric);
        if to.is_empty() { message } else { message.add(1, to) }
    };
    let v6 = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let net = [0x20, 0x01, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let link_local = address(AF_INET, 16, &[169, 254, 7, 7], &[169, 254, 7, 7]);
    let leased = address(AF_INET, 24, &[192, 0, 2, 9], &[192, 0, 2, 9]).add(CACHE_INFO, &lease);
    let leased_host = address(AF_INET, 32, &[192, 0, 2, 9], &[192, 0, 2, 9]).add(CACHE_INFO, &lease);
    let with_peer = address(AF_INET, 32, &[192, 0, 2, 10], &[192, 0, 2, 9]);
    Ok(vec![
        change("link-local address added to the device", NEWADDR, CREATE, link_local),
        change("leased address added to the device", NEWADDR, CREATE, leased),
        change("leased address of a whole host added to the device", NEWADDR, CREATE, leased_host),
        change("address with a peer added to the device", NEWADDR, CREATE, with_peer),
        change("IPv6 address added to the device", NEWADDR, CREATE, address(AF_INET6, 64, &v6, &v6)),
        change("default route by the device", NEWROUTE, CREATE, route(AF_INET, 0, DHCP, &[], 100)),
        change("route by the device", NEWROUTE, CREATE, route(AF_INET, 32, BIRD, &[169, 254, 169, 254], 0)),
        change("IPv6 route by the device", NEWROUTE, CREATE, route(AF_INET6, 48, BIRD, &net, 1024)),
    ])
}

fn change(name: impl Into<String>, kind: u16, flags: u16, message: Message) -> Row {
    Row::new(name, Hand::Route(vec![Request { kind, flags, payload: message.bytes() }]))
}

/// The header and these attributes of what was dumped.
fn part(payload: &[u8], header: usize, kinds: &[u16]) -> Message {
    let start = Message::new(&payload[..header]);
    attributes(payload, header)
        .filter(|(kind, _)| kinds.contains(kind))
        .fold(start, |message, (kind, value)| message.add(kind, value))
}

fn value(payload: &[u8], header: usize, kind: u16) -> String {
    find(payload, header, kind).map(shown).unwrap_or_default()
}

fn address(payload: &[u8]) -> Row {
    let name = format!("address {} deleted", value(payload, IFADDR, 1));
    change(name, DELADDR, 0, part(payload, IFADDR, &[1, 2]))
}

fn entry(payload: &[u8]) -> Vec<Row> {
    let name = format!("FDB entry {}", value(payload, NDMSG, 2));
    let elsewhere = part(payload, NDMSG, &[2]).add(1, &NOBODY_V4);
    vec![
        change(format!("{name} deleted"), DELNEIGH, 0, part(payload, NDMSG, &[1, 2])),
        change(format!("{name} leads elsewhere"), NEWNEIGH, CREATE | REPLACE, elsewhere),
    ]
}

fn neighbour(payload: &[u8], link: &str) -> Vec<Row> {
    let name = format!("neighbour {} on {link}", value(payload, NDMSG, 1));
    let mut aged = payload.to_vec();
    aged[8..10].copy_from_slice(&STALE.to_ne_bytes());
    let elsewhere = part(payload, NDMSG, &[1]).add(2, &NOBODY_MAC);
    vec![
        change(format!("{name} deleted"), DELNEIGH, 0, part(payload, NDMSG, &[1])),
        change(format!("{name} has another MAC"), NEWNEIGH, CREATE | REPLACE, elsewhere),
        change(format!("{name} may age"), NEWNEIGH, CREATE | REPLACE, part(&aged, NDMSG, &[1, 2])),
    ]
}

fn nexthop(payload: &[u8]) -> Vec<Row> {
    let id = find(payload, NHMSG, 1).and_then(number).unwrap_or_default();
    let name = format!("nexthop {id:#x} via {}", value(payload, NHMSG, 6));
    let family = payload[0];
    let header = |protocol: u8| {
        let mut header = vec![family, 0, protocol, 0];
        header.extend(ONLINK.to_ne_bytes());
        header
    };
    let link = find(payload, NHMSG, 5).unwrap_or_default();
    let gateway = if family == AF_INET { &NOBODY_V4[..] } else { &NOBODY_V6[..] };
    let elsewhere = Message::new(&header(PROTOCOL)).number(1, id).add(5, link).add(6, gateway);
    let blackhole = Message::new(&[family, 0, STATIC, 0, 0, 0, 0, 0]).number(1, id).add(4, &[]);
    vec![
        change(format!("{name} deleted"), DELNEXTHOP, 0, Message::new(&[0; NHMSG]).number(1, id)),
        change(format!("{name} leads elsewhere"), NEWNEXTHOP, CREATE | REPLACE, elsewhere),
        change(format!("{name} is a static blackhole"), NEWNEXTHOP, CREATE | REPLACE, blackhole),
    ]
}

fn route(payload: &[u8]) -> Vec<Row> {
    let kind = match (payload[7], find(payload, RTMSG, 30), find(payload, RTMSG, 5)) {
        (7, ..) => "unreachable route",
        (_, Some(_), _) => "tunnel route",
        (_, None, Some(_)) => "direct route",
        _ => "pod's route",
    };
    let name = format!("{kind} {}/{}", value(payload, RTMSG, 1), payload[1]);
    let mut foreign = payload.to_vec();
    foreign[5] = STATIC;
    foreign[7] = BLACKHOLE;
    foreign[8..12].fill(0);
    let mut marked = foreign.clone();
    marked[5] = PROTOCOL;
    let taken = part(&foreign, RTMSG, &[1, 6, 15]);
    let altered = part(&marked, RTMSG, &[1, 6, 15]);
    vec![
        change(format!("{name} deleted"), DELROUTE, 0, part(payload, RTMSG, &[1, 6, 15])),
        change(format!("{name} is a static blackhole"), NEWROUTE, CREATE | REPLACE, taken),
        change(format!("{name} is a blackhole"), NEWROUTE, CREATE | REPLACE, altered),
    ]
}
