//! What is not Weft's: laid beside everything of Weft's before an agent starts, as close as possible.

use anyhow::Result;

use crate::drift::{
    attributes::Message,
    hands::{
        links::{self, Vxlan},
        tables,
    },
    netlink::{CREATE, Request},
    picture::Eye,
};

const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const NEWNEIGH: u16 = 28;
const NEWNEXTHOP: u16 = 104;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_BRIDGE: u8 = 7;
const PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 2;
const MAIN: u8 = 254;
const STATIC: u8 = 4;
const WEFTS: u8 = 87;
const UNICAST: u8 = 1;
const BLACKHOLE: u8 = 6;
const SCOPE_LINK: u8 = 253;
/// Another overlay's device, with Weft's network identifier and a port of its own.
const LINK: &str = "other0";
/// And one with Weft's port and an identifier of its own.
const NEIGHBOUR: &str = "other1";

/// Lays everything.
pub(crate) fn place(eye: &Eye) -> Result<()> {
    let others =
        [(LINK, 87, 8472), (NEIGHBOUR, 88, 4789)].map(|(name, vni, port)| Vxlan { name, vni, port, alias: None });
    for vxlan in &others {
        eye.route.ask(&links::create(vxlan))?;
    }
    for (name, last) in [(LINK, 1), (NEIGHBOUR, 2)] {
        let link = links::index(&eye.route, name)?;
        eye.route.ask(&[address(link, [10, 99, last, 1])])?;
        eye.route.ask(&entries(link, last))?;
    }
    let link = links::index(&eye.route, LINK)?;
    eye.route.ask(&nexthops(link))?;
    eye.route.ask(&routes(link))?;
    eye.tables.transact(&edits())
}

fn request(kind: u16, message: Message) -> Request {
    Request { kind, flags: CREATE, payload: message.bytes() }
}

fn address(link: u32, at: [u8; 4]) -> Request {
    let mut header = vec![AF_INET, 24, 0, 0];
    header.extend(link.to_ne_bytes());
    request(NEWADDR, Message::new(&header).add(2, &at).add(1, &at))
}

/// Forwarding entries and neighbours: of nodes of that overlay, and of addresses inside Weft's pools.
fn entries(link: u32, last: u8) -> Vec<Request> {
    let header = |family: u8, flags: u8| {
        let mut header = [0; 12];
        header[0] = family;
        header[4..8].copy_from_slice(&link.to_ne_bytes());
        header[8..10].copy_from_slice(&PERMANENT.to_ne_bytes());
        header[10] = flags;
        Message::new(&header)
    };
    let mac = |n: u8| [2, 0x99, 0, 0, last, n];
    let mut all = Vec::new();
    for n in 2..5 {
        all.push(request(NEWNEIGH, header(AF_BRIDGE, NTF_SELF).add(2, &mac(n)).add(1, &[10, 87, 2, n])));
        all.push(request(NEWNEIGH, header(AF_INET, 0).add(1, &[10, 244, n - 2, 0]).add(2, &mac(n))));
    }
    all
}

/// With an id of one's own, and with one in Weft's range but another's protocol.
fn nexthops(link: u32) -> Vec<Request> {
    let header = [AF_INET, 0, STATIC, 0, 0, 0, 0, 0];
    let one = |id: u32, last: u8| {
        request(NEWNEXTHOP, Message::new(&header).number(1, id).number(5, link).add(6, &[10, 99, 1, last]))
    };
    vec![one(87, 7), one(0x5745_0400, 8)]
}

/// In and near the pools: shares and a pool with other metrics, an address nobody has; our protocol in another table.
fn routes(link: u32) -> Vec<Request> {
    let v6 = |third: u16| {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&[0xfd, 0x44, 0x57, 0x45]);
        octets[6..8].copy_from_slice(&third.to_be_bytes());
        octets
    };
    let one = |header: [u8; 8], to: &[u8], metric: u32, link: Option<u32>| {
        let message = Message::new(&[&header[..], &[0; 4]].concat()).add(1, to).number(6, metric);
        request(NEWROUTE, if let Some(link) = link { message.number(4, link) } else { message })
    };
    let header = |family, length, table, protocol, kind| {
        let scope = if kind == UNICAST && family == AF_INET { SCOPE_LINK } else { 0 };
        [family, length, 0, 0, table, protocol, scope, kind]
    };
    let mut all = Vec::new();
    for share in 0..3 {
        all.push(one(header(AF_INET, 24, MAIN, STATIC, UNICAST), &[10, 244, share, 0], 500, Some(link)));
        all.push(one(header(AF_INET6, 64, MAIN, STATIC, UNICAST), &v6(share.into()), 4096, Some(link)));
        all.push(one(header(AF_INET, 24, 100, WEFTS, UNICAST), &[10, 244, share, 0], 0, Some(link)));
        all.push(one(header(AF_INET6, 64, 100, WEFTS, UNICAST), &v6(share.into()), 1024, Some(link)));
    }
    all.push(one(header(AF_INET, 16, MAIN, STATIC, BLACKHOLE), &[10, 244, 0, 0], 3000, None));
    all.push(one(header(AF_INET, 32, MAIN, STATIC, BLACKHOLE), &[10, 244, 200, 1], 0, None));
    all.push(one(header(AF_INET, 15, MAIN, STATIC, UNICAST), &[10, 250, 0, 0], 0, Some(link)));
    all
}

/// A table of another name, and one of Weft's name in another family.
fn edits() -> Vec<Request> {
    let table = |family: u8, name: &str| tables::request(tables::NEWTABLE, CREATE, tables::of(family, name));
    let (inet, ip) = (tables::INET, AF_INET);
    let set = tables::of(inet, "other").text(2, SET).big(3, 0).big(4, 7).big(5, 4).big(10, 1);
    let postrouting = Message::default().big(1, 4).big(2, 0);
    let chain = tables::of(ip, "weft").text(3, "postrouting").nest(4, postrouting).text(7, "filter");
    vec![
        table(inet, "other"),
        tables::base_chain("other", "forward", 2, 0),
        tables::rule("other", "forward", 1, crate::drift::netlink::APPEND),
        tables::request(tables::NEWSET, CREATE, set),
        tables::element(tables::NEWELEMENT, "other", SET, &[10, 87, 2, 77]),
        table(ip, "weft"),
        tables::request(tables::NEWCHAIN, CREATE, chain),
    ]
}

/// A set of IPv4 addresses in table `inet other`.
pub(crate) const SET: &str = "addresses";
