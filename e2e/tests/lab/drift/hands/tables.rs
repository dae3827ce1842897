//! Table `inet weft`: deleted, flushed, edited.

use anyhow::{Context, Result};

use super::{Hand, Row};
use crate::drift::{
    attributes::{Message, find, text},
    netlink::{APPEND, CREATE, Netlink, Request},
};

const NFTABLES: u16 = 10 << 8;
pub(crate) const NEWTABLE: u16 = NFTABLES;
const DELTABLE: u16 = NFTABLES | 2;
pub(crate) const NEWCHAIN: u16 = NFTABLES | 3;
const DELCHAIN: u16 = NFTABLES | 5;
pub(crate) const NEWRULE: u16 = NFTABLES | 6;
const GETRULE: u16 = NFTABLES | 7;
const DELRULE: u16 = NFTABLES | 8;
pub(crate) const NEWSET: u16 = NFTABLES | 9;
const GETSET: u16 = NFTABLES | 10;
pub(crate) const NEWELEMENT: u16 = NFTABLES | 12;
const GETELEMENT: u16 = NFTABLES | 13;
pub(crate) const DELELEMENT: u16 = NFTABLES | 14;
const GETCHAIN: u16 = NFTABLES | 4;
const NFGENMSG: usize = 4;
pub(crate) const INET: u8 = 1;
const ACCEPT: u32 = 1;
const DROP: u32 = 0;
const TABLE: &str = "weft";

/// Everything that can be done to the table.
pub(crate) fn rows(socket: &Netlink) -> Result<Vec<Row>> {
    let (chains, sets) = (names(socket, GETCHAIN, 3)?, names(socket, GETSET, 2)?);
    let mut rows = vec![
        row("table deleted", request(DELTABLE, 0, named(TABLE))),
        row("table flushed: all rules deleted", request(DELRULE, 0, named(TABLE))),
        row("table made dormant", request(NEWTABLE, 0, named(TABLE).big(2, 1))),
        row("chain added", base_chain(TABLE, "added", 2, 5)),
    ];
    for chain in &chains {
        rows.push(row(format!("chain {chain}: rule added in front"), rule(TABLE, chain, ACCEPT, 0)));
        rows.push(row(format!("chain {chain}: rule added at the end"), rule(TABLE, chain, DROP, APPEND)));
        rows.push(row(format!("chain {chain}: a rule removed"), first_rule(socket, chain)?));
        rows.push(row(format!("chain {chain}: flushed"), request(DELRULE, 0, named(TABLE).text(2, chain))));
        let drop = named(TABLE).text(3, chain).big(5, DROP);
        rows.push(row(format!("chain {chain}: policy drop"), request(NEWCHAIN, 0, drop)));
        let gone = [DELRULE, DELCHAIN].map(|kind| {
            let name = if kind == DELRULE { 2 } else { 3 };
            request(kind, 0, named(TABLE).text(name, chain))
        });
        rows.push(Row::new(format!("chain {chain}: deleted"), Hand::Tables(gone.into())));
    }
    for set in &sets {
        let elements = elements(socket, set)?;
        if let Some(list) = elements {
            let all = request(DELELEMENT, 0, named(TABLE).text(2, set).add(3 | 0x8000, &list));
            rows.push(row(format!("set {set}: all elements removed"), all));
        }
    }
    let nobody =
        [("peers4", &[192, 0, 2, 66][..]), ("peers6", &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])];
    for (set, address) in nobody {
        rows.push(row(format!("set {set}: a stranger added"), element(NEWELEMENT, TABLE, set, address)));
    }
    for set in sets.iter().filter(|set| set.starts_with("bound")) {
        let key = pair_of_nobody(set)?;
        rows.push(row(format!("set {set}: a pair added"), element(NEWELEMENT, TABLE, set, &key)));
    }
    rows.push(row("set of pairs added", set_of_pairs("bound4_4_25")));
    Ok(rows)
}

/// An address that no member has, with pods of nobody's: the octets that the set's name says.
fn pair_of_nobody(set: &str) -> Result<Vec<u8>> {
    let octets = |version: &str, first: &[u8]| {
        let mut octets = first.to_vec();
        octets.resize(if version == "4" { 4 } else { 16 }, 0);
        octets
    };
    let versions = set.strip_prefix("bound").and_then(|rest| rest.split_once('_'));
    let (outer, rest) = versions.with_context(|| format!("{set} is no set of pairs"))?;
    let inner = rest.split('_').next().unwrap_or_default();
    Ok([octets(outer, &[192, 0, 2, 66]), octets(inner, &[10, 99])].concat())
}

/// A hash set of IPv4 pairs.
fn set_of_pairs(name: &str) -> Request {
    request(NEWSET, CREATE, named(TABLE).text(2, name).big(3, 0).big(4, 7 << 6 | 7).big(5, 8).big(10, 1))
}

fn row(name: impl Into<String>, edit: Request) -> Row {
    Row::new(name, Hand::Tables(vec![edit]))
}

pub(crate) fn request(kind: u16, flags: u16, message: Message) -> Request {
    Request { kind, flags, payload: message.bytes() }
}

fn named(table: &str) -> Message {
    of(INET, table)
}

/// A message about this table; its name is the first attribute of every kind of object.
pub(crate) fn of(family: u8, table: &str) -> Message {
    Message::new(&[family, 0, 0, 0]).text(1, table)
}

/// A base chain of type filter, policy accept.
pub(crate) fn base_chain(table: &str, name: &str, hook: u32, priority: u32) -> Request {
    let hook = Message::default().big(1, hook).big(2, priority);
    request(NEWCHAIN, CREATE, named(table).text(3, name).nest(4, hook).big(5, ACCEPT).text(7, "filter"))
}

/// A rule that matches packets of interface "nobody" and gives this verdict.
pub(crate) fn rule(table: &str, chain: &str, verdict: u32, flags: u16) -> Request {
    let expression = |name: &str, data: Message| Message::default().text(1, name).nest(2, data);
    // `iifname`, compared with a name nobody has, so that the rule changes no traffic.
    let name = *b"nobody\0\0\0\0\0\0\0\0\0\0";
    let meta = expression("meta", Message::default().big(1, 1).big(2, 6));
    let compare = expression("cmp", Message::default().big(1, 1).big(2, 0).nest(3, Message::default().add(1, &name)));
    let verdict = Message::default().nest(2, Message::default().big(1, verdict));
    let verdict = expression("immediate", Message::default().big(1, 0).nest(2, verdict));
    let list = [meta, compare, verdict].into_iter().fold(Message::default(), |list, one| list.nest(1, one));
    request(NEWRULE, CREATE | flags, named(table).text(2, chain).nest(4, list))
}

/// One element put or removed.
pub(crate) fn element(kind: u16, table: &str, set: &str, key: &[u8]) -> Request {
    elements_of(kind, table, set, std::iter::once(key.to_vec()))
}

/// Several.
pub(crate) fn elements_of(kind: u16, table: &str, set: &str, keys: impl Iterator<Item = Vec<u8>>) -> Request {
    let one = |list: Message, key: Vec<u8>| list.nest(1, Message::default().nest(1, Message::default().add(1, &key)));
    request(
        kind,
        if kind == NEWELEMENT { CREATE } else { 0 },
        named(table).text(2, set).nest(3, keys.fold(Message::default(), one)),
    )
}

/// The names of the table's chains or sets.
fn names(socket: &Netlink, get: u16, attribute: u16) -> Result<Vec<String>> {
    let found = socket.dump(get, &[0; NFGENMSG])?;
    let ours = found.iter().filter(|payload| is_ours(payload));
    Ok(ours.filter_map(|payload| find(payload, NFGENMSG, attribute).map(text)).collect())
}

fn is_ours(payload: &[u8]) -> bool {
    payload[0] == INET && find(payload, NFGENMSG, 1).map(text).as_deref() == Some(TABLE)
}

fn first_rule(socket: &Netlink, chain: &str) -> Result<Request> {
    let found = socket.dump(GETRULE, &[0; NFGENMSG])?;
    let of_chain = |payload: &&Vec<u8>| find(payload, NFGENMSG, 2).map(text).as_deref() == Some(chain);
    let first = found.iter().filter(|payload| is_ours(payload)).find(of_chain);
    let handle = first.and_then(|payload| find(payload, NFGENMSG, 3)).with_context(|| format!("no rule in {chain}"))?;
    Ok(request(DELRULE, 0, named(TABLE).text(2, chain).add(3, handle)))
}

/// The elements of a set as they were dumped; none where it is empty.
fn elements(socket: &Netlink, set: &str) -> Result<Option<Vec<u8>>> {
    let found = socket.dump(GETELEMENT, &named(TABLE).text(2, set).bytes())?;
    let list = found.first().and_then(|payload| find(payload, NFGENMSG, 3)).filter(|list| !list.is_empty());
    Ok(list.map(<[u8]>::to_vec))
}
