//! nf_tables' part of a picture: the tables of every family.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::drift::{
    attributes::{Message, attributes, find, hex, text},
    netlink::Netlink,
};

/// Subsystem nf_tables.
const NFTABLES: u16 = 10 << 8;
const GETTABLE: u16 = NFTABLES | 1;
const GETCHAIN: u16 = NFTABLES | 4;
const GETRULE: u16 = NFTABLES | 7;
const GETSET: u16 = NFTABLES | 10;
const GETELEMENT: u16 = NFTABLES | 13;
const GETOBJECT: u16 = NFTABLES | 19;
/// Length of `struct nfgenmsg`.
const NFGENMSG: usize = 4;

pub(super) fn read(socket: &Netlink) -> Result<Vec<String>> {
    let mut all = Vec::new();
    // Name and flags; not its handle and users.
    all.extend(plain(socket, "table", GETTABLE, &[1, 2])?);
    // Table, name, hook, policy, type, flags.
    all.extend(plain(socket, "chain", GETCHAIN, &[1, 3, 4, 5, 7, 10])?);
    // Table, name, flags, types and lengths of key and data.
    all.extend(plain(socket, "set", GETSET, &[1, 2, 3, 4, 5, 6, 7])?);
    // Table, name, type; not the figures.
    all.extend(plain(socket, "object", GETOBJECT, &[1, 2, 3])?);
    all.extend(rules(socket)?);
    for set in socket.dump(GETSET, &[0; NFGENMSG])? {
        all.extend(elements(socket, &set)?);
    }
    Ok(all)
}

fn plain(socket: &Netlink, what: &str, get: u16, kinds: &[u16]) -> Result<Vec<String>> {
    let found = socket.dump(get, &[0; NFGENMSG])?;
    Ok(found.iter().map(|payload| format!("{what} family={} {}", payload[0], list(payload, kinds))).collect())
}

fn list(payload: &[u8], kinds: &[u16]) -> String {
    let one = |(kind, value): (u16, &[u8])| format!("{kind}={}", if kind <= 3 { readable(value) } else { hex(value) });
    let wanted = attributes(payload, NFGENMSG).filter(|(kind, _)| kinds.contains(kind));
    wanted.map(one).collect::<Vec<_>>().join(" ")
}

fn readable(value: &[u8]) -> String {
    let is_text = value.last() == Some(&0) && value.iter().rev().skip(1).all(u8::is_ascii_graphic);
    if is_text && value.len() > 1 { text(value) } else { hex(value) }
}

/// Each with its place in its chain: their order counts.
fn rules(socket: &Netlink) -> Result<Vec<String>> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let found = socket.dump(GETRULE, &[0; NFGENMSG])?;
    let line = |payload: &Vec<u8>| {
        let chain = format!("family={} {}", payload[0], list(payload, &[1, 2]));
        let place = places.entry(chain.clone()).or_default();
        *place += 1;
        format!("rule {chain} #{place} {}", list(payload, &[4, 7]))
    };
    Ok(found.iter().map(line).collect())
}

fn elements(socket: &Netlink, set: &[u8]) -> Result<Vec<String>> {
    let of = |kind| find(set, NFGENMSG, kind).map(text).unwrap_or_default();
    let (table, name) = (of(1), of(2));
    let request = Message::new(&[set[0], 0, 0, 0]).text(1, &table).text(2, &name).bytes();
    let mut all = Vec::new();
    for payload in socket.dump(GETELEMENT, &request)? {
        for (_, element) in find(&payload, NFGENMSG, 3).into_iter().flat_map(|list| attributes(list, 0)) {
            // Key, flags, end of the key; not ages and figures.
            let wanted = attributes(element, 0).filter(|(kind, _)| [1, 3, 10].contains(kind));
            let shown: Vec<String> = wanted.map(|(kind, value)| format!("{kind}={}", hex(value))).collect();
            all.push(format!("element family={} {table} {name} {}", set[0], shown.join(" ")));
        }
    }
    Ok(all)
}
