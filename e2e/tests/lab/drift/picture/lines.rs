//! rtnetlink's part of a picture.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::drift::{
    attributes::{attributes, find, hex, number, shown, text},
    netlink::Netlink,
};

const GETLINK: u16 = 18;
const GETADDR: u16 = 22;
const GETROUTE: u16 = 26;
const GETNEIGH: u16 = 30;
const GETNEXTHOP: u16 = 106;
const IFINFO: usize = 16;
const IFADDR: usize = 8;
const NDMSG: usize = 12;
const RTMSG: usize = 12;
const NHMSG: usize = 8;
const AF_BRIDGE: u8 = 7;
const PERMANENT: u16 = 0x80;
/// IFA_F_TENTATIVE.
const TENTATIVE: u32 = 0x40;
/// Table `local` is the kernel's own.
const TABLE_LOCAL: u8 = 255;

type Names = BTreeMap<u32, (String, String)>;

pub(super) fn read(socket: &Netlink) -> Result<Vec<String>> {
    let links = socket.dump(GETLINK, &[0; IFINFO])?;
    let names: Names = links.iter().filter_map(|link| Some((index(link, 4)?, name_and_kind(link)))).collect();
    let mut all: Vec<String> = links.iter().map(|payload| link(payload, &names)).collect();
    all.extend(socket.dump(GETADDR, &[0; IFADDR])?.iter().map(|payload| address(payload, &names)));
    let neighbours = socket.dump(GETNEIGH, &[0; NDMSG])?;
    all.extend(neighbours.iter().filter(|payload| is_permanent(payload)).map(|payload| neighbour(payload, &names)));
    let mut bridge = [0; NDMSG];
    bridge[0] = AF_BRIDGE;
    let entries = socket.dump(GETNEIGH, &bridge)?;
    all.extend(entries.iter().filter(|payload| is_vxlan(payload, &names)).map(|payload| neighbour(payload, &names)));
    all.extend(socket.dump(GETNEXTHOP, &[0; NHMSG])?.iter().map(|payload| nexthop(payload, &names)));
    let routes = socket.dump(GETROUTE, &[0; RTMSG])?;
    all.extend(routes.iter().filter(|payload| payload[4] != TABLE_LOCAL).map(|payload| route(payload, &names)));
    Ok(all)
}

fn index(payload: &[u8], at: usize) -> Option<u32> {
    payload.get(at..).and_then(number)
}

fn name_and_kind(link: &[u8]) -> (String, String) {
    let kind = find(link, IFINFO, 18).and_then(|info| find(info, 0, 1)).map(text).unwrap_or_default();
    (find(link, IFINFO, 3).map(text).unwrap_or_default(), kind)
}

fn name(names: &Names, index: Option<u32>) -> String {
    match index.map(|index| names.get(&index)) {
        None | Some(None) => "-".to_owned(),
        Some(Some((name, _))) => name.clone(),
    }
}

/// Up, carrier, MTU, Ethernet address, alias, master, IPv6's way to make addresses, and what makes a VXLAN device.
fn link(payload: &[u8], names: &Names) -> String {
    let (name_of_it, kind) = name_and_kind(payload);
    let flags = index(payload, 8).unwrap_or_default();
    let get = |kind| find(payload, IFINFO, kind);
    let (mtu, mac) = (get(4).and_then(number).unwrap_or_default(), get(1).map(hex).unwrap_or_default());
    let (alias, master) = (get(20).map(text).unwrap_or_default(), name(names, get(10).and_then(number)));
    let generation = get(26).and_then(|spec| find(spec, 0, 10)).and_then(|inet6| find(inet6, 0, 8)).map(hex);
    let data = get(18).filter(|_| kind == "vxlan").and_then(|info| find(info, 0, 2)).map(list).unwrap_or_default();
    format!(
        "link {name_of_it} {kind} up={} carrier={} mtu={mtu} mac={mac} alias={alias} master={master} \
         addrgen={generation:?} {data}",
        flags & 1,
        flags >> 16 & 1
    )
}

fn list(value: &[u8]) -> String {
    attributes(value, 0).map(|(kind, value)| format!("{kind}={}", hex(value))).collect::<Vec<_>>().join(" ")
}

fn address(payload: &[u8], names: &Names) -> String {
    let get = |kind| find(payload, IFADDR, kind);
    // Duplicate address detection passes.
    let flags = get(8).and_then(number).unwrap_or_default() & !TENTATIVE;
    let local = get(2).or_else(|| get(1)).map(shown).unwrap_or_default();
    format!("address {} {local}/{} flags={flags:x} scope={}", name(names, index(payload, 4)), payload[1], payload[3])
}

fn state(payload: &[u8]) -> u16 {
    u16::from_ne_bytes([payload[8], payload[9]])
}

fn is_permanent(payload: &[u8]) -> bool {
    state(payload) & PERMANENT != 0
}

fn is_vxlan(payload: &[u8], names: &Names) -> bool {
    index(payload, 4).and_then(|index| names.get(&index)).is_some_and(|(_, kind)| kind == "vxlan")
}

fn neighbour(payload: &[u8], names: &Names) -> String {
    let what = if payload[0] == AF_BRIDGE { "fdb" } else { "neighbour" };
    let rest: Vec<String> = [1, 2, 6, 7, 8]
        .into_iter()
        .filter_map(|kind| Some(format!("{kind}={}", shown(find(payload, NDMSG, kind)?))))
        .collect();
    let link = name(names, index(payload, 4));
    format!("{what} {link} {} state={:x} flags={:x}", rest.join(" "), state(payload), payload[10])
}

fn nexthop(payload: &[u8], names: &Names) -> String {
    let rest = others(payload, NHMSG, &[], 5, names);
    let flags = index(payload, 4).unwrap_or_default();
    format!("nexthop family={} protocol={} flags={flags:x} {rest}", payload[0], payload[2])
}

/// All but what the kernel counts (RTA_CACHEINFO).
fn route(payload: &[u8], names: &Names) -> String {
    let [family, length, .., table, protocol, scope, kind] = payload[..8] else { return "route ?".to_owned() };
    let to = find(payload, RTMSG, 1).map_or_else(|| "default".to_owned(), shown);
    let flags = index(payload, 8).unwrap_or_default();
    let rest = others(payload, RTMSG, &[1, 12], 4, names);
    format!(
        "route {to}/{length} family={family} table={table} protocol={protocol} scope={scope} type={kind} \
         flags={flags:x} {rest}"
    )
}

fn others(payload: &[u8], header: usize, left_out: &[u16], link: u16, names: &Names) -> String {
    let one = |(kind, value): (u16, &[u8])| match kind {
        kind if kind == link => format!("dev={}", name(names, number(value))),
        kind => format!("{kind}={}", shown(value)),
    };
    let wanted = attributes(payload, header).filter(|(kind, _)| !left_out.contains(kind));
    wanted.map(one).collect::<Vec<_>>().join(" ")
}
