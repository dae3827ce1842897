//! A destination translation, as a Service or a port forwarding makes it.
//!
//! Owns a table of its own in a namespace, written over nfnetlink so that no `nft` program is needed. Must never touch
//! another table. Numbers and layouts: include/uapi/linux/netfilter/nf_tables.h.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::Namespace;

const TABLE: &str = "lab";
const CHAIN: &str = "translate";
const NFPROTO_IPV4: u8 = 2;
/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
/// NLM_F_REQUEST, _ACK, _CREATE, _APPEND.
const REQUEST: u16 = 0x01;
const ACK: u16 = 0x04;
const CREATE: u16 = 0x400 | 0x800;
const NESTED: u16 = 0x8000;
const UDP: u8 = 17;

/// Translates UDP packets that pass `namespace` from one destination to another, before they are routed.
///
/// # Errors
/// Where the kernel refuses.
pub fn translate_udp(namespace: &Namespace, from: SocketAddrV4, to: SocketAddrV4) -> Result<()> {
    namespace.enter(move || transact(&batch(from, to))).with_context(|| format!("cannot translate {from} to {to}"))
}

fn transact(batch: &[u8]) -> Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.send_to(batch, &SocketAddr::new(0, 0), 0)?;
    // One acknowledgement for each message that asked for one.
    for what in ["table", "chain", "rule"] {
        let answer = socket.recv_from_full()?.0;
        let code = answer.get(16..20).context("a short answer")?;
        let code = i32::from_ne_bytes(code.try_into().expect("four bytes"));
        if code != 0 {
            bail!("the kernel refused the {what}: {}", std::io::Error::from_raw_os_error(-code));
        }
    }
    Ok(())
}

fn batch(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let table = string(1, TABLE);
    // NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST.
    let hook = nest(4, &[number(1, 0), number(2, (-100_i32).cast_unsigned())]);
    let chain = [string(1, TABLE), string(3, CHAIN), hook, string(7, "nat")].concat();
    let rule = [string(1, TABLE), string(2, CHAIN), nest(4, &expressions(from, to))].concat();
    [
        message(BATCH_BEGIN, REQUEST, 0, SUBSYSTEM, &[]),
        message(NEW_TABLE, REQUEST | ACK | CREATE, NFPROTO_IPV4, 0, &table),
        message(NEW_CHAIN, REQUEST | ACK | CREATE, NFPROTO_IPV4, 0, &chain),
        message(NEW_RULE, REQUEST | ACK | CREATE, NFPROTO_IPV4, 0, &rule),
        message(BATCH_END, REQUEST, 0, SUBSYSTEM, &[]),
    ]
    .concat()
}

/// `ip protocol udp ip daddr FROM udp dport FROM dnat to TO`.
fn expressions(from: SocketAddrV4, to: SocketAddrV4) -> Vec<Vec<u8>> {
    let (network, transport) = (1, 2);
    let nat = [number(1, 1), number(2, NFPROTO_IPV4.into()), number(3, 1), number(5, 2)].concat();
    let mut all = [
        matches(network, 9, &[UDP]),
        matches(network, 16, &from.ip().octets()),
        matches(transport, 2, &from.port().to_be_bytes()),
        vec![immediate(1, &octets(*to.ip())), immediate(2, &to.port().to_be_bytes())],
    ]
    .concat();
    all.push(expression("nat", &nat));
    all
}

fn octets(address: Ipv4Addr) -> [u8; 4] {
    address.octets()
}

/// Loads a field of a header and compares it.
fn matches(base: u32, offset: u32, value: &[u8]) -> Vec<Vec<u8>> {
    let length = u32::try_from(value.len()).expect("a few bytes");
    let payload = [number(1, 1), number(2, base), number(3, offset), number(4, length)].concat();
    let compare = [number(1, 1), number(2, 0), nest(3, &[attribute(1, value)])].concat();
    vec![expression("payload", &payload), expression("cmp", &compare)]
}

fn immediate(register: u32, value: &[u8]) -> Vec<u8> {
    expression("immediate", &[number(1, register), nest(2, &[attribute(1, value)])].concat())
}

fn expression(name: &str, data: &[u8]) -> Vec<u8> {
    nest(1, &[string(1, name), attribute(2 | NESTED, data)])
}

fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + 4 + attributes.len()).expect("a small message");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    // Sequence and port: nobody pipelines here, answers come in order.
    bytes.extend([0; 8]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a small attribute");
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

fn string(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}
