//! A foreign hand at nftables: another program's edits, encoded by another library than the agent's own.

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily, nftables::NfTablesMessage, none::ControlMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

pub(crate) const NEW_TABLE: u8 = 0;
pub(crate) const DELETE_TABLE: u8 = 2;
pub(crate) const NEW_CHAIN: u8 = 3;
pub(crate) const GET_CHAIN: u8 = 4;
pub(crate) const DELETE_CHAIN: u8 = 5;
pub(crate) const NEW_RULE: u8 = 6;
pub(crate) const GET_RULE: u8 = 7;
pub(crate) const DELETE_RULE: u8 = 8;
pub(crate) const NEW_SET: u8 = 9;
pub(crate) const GET_SET: u8 = 10;
pub(crate) const DELETE_SET: u8 = 11;
pub(crate) const NEW_ELEMENT: u8 = 12;
pub(crate) const GET_GENERATION: u8 = 16;
pub(crate) const NEW_OBJECT: u8 = 18;
pub(crate) const DELETE_OBJECT: u8 = 20;
pub(crate) const INET: NetfilterProtoFamily = NetfilterProtoFamily::Inet;
const APPEND: u16 = 0x800;

pub(crate) fn text(kind: u16, value: &str) -> DefaultNla {
    DefaultNla::new(kind, [value.as_bytes(), &[0]].concat())
}

pub(crate) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().into())
}

pub(crate) fn nest(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | 0x8000, bytes)
}

/// A rule of these expressions (name and data), appended.
pub(crate) fn rule(table: &str, chain: &str, expressions: &[(&str, Vec<DefaultNla>)]) -> Edit {
    let list: Vec<DefaultNla> =
        expressions.iter().map(|(name, data)| nest(1, &[text(1, name), nest(2, data)])).collect();
    Edit::new(NEW_RULE, &[text(1, table), text(2, chain), nest(4, &list)]).flags(APPEND)
}

/// The `accept` or `drop` verdict.
pub(crate) fn verdict(code: u32) -> (&'static str, Vec<DefaultNla>) {
    ("immediate", vec![number(1, 0), nest(2, &[nest(2, &[number(1, code)])])])
}

/// The `jump` verdict.
pub(crate) fn jump(chain: &str) -> (&'static str, Vec<DefaultNla>) {
    let jump = [number(1, (-3_i32).cast_unsigned()), text(2, chain)];
    ("immediate", vec![number(1, 0), nest(2, &[nest(2, &jump)])])
}

/// A base chain of type filter.
pub(crate) fn base_chain(table: &str, chain: &str, hook: u32, priority: i32, policy: u32) -> Edit {
    let hook = nest(4, &[number(1, hook), number(2, priority.cast_unsigned())]);
    Edit::new(NEW_CHAIN, &[text(1, table), text(3, chain), hook, number(5, policy), text(7, "filter")])
}

/// One message.
#[derive(Clone)]
pub(crate) struct Edit {
    kind: u8,
    flags: u16,
    family: NetfilterProtoFamily,
    attributes: Vec<DefaultNla>,
}

impl Edit {
    pub(crate) fn new(kind: u8, attributes: &[DefaultNla]) -> Self {
        Self { kind, flags: NLM_F_CREATE, family: INET, attributes: attributes.to_vec() }
    }

    /// Adds flags.
    pub(crate) fn flags(mut self, flags: u16) -> Self {
        self.flags |= flags;
        self
    }

    /// At the front of the chain instead of its end.
    pub(crate) fn first(mut self) -> Self {
        self.flags &= !APPEND;
        self
    }

    pub(crate) fn family(mut self, family: NetfilterProtoFamily) -> Self {
        self.family = family;
        self
    }
}

/// The other program.
pub(crate) struct Foreign {
    socket: Socket,
}

impl Foreign {
    pub(crate) fn open() -> Self {
        let mut socket = Socket::new(NETLINK_NETFILTER).expect("a netlink socket");
        socket.bind_auto().expect("an address");
        socket.connect(&SocketAddr::new(0, 0)).expect("the kernel");
        Self { socket }
    }

    /// Carries out a transaction; the kernel must take it.
    pub(crate) fn edit(&self, edits: &[Edit]) {
        let mut bytes = frame(&control(ControlMessage::BatchBegin), NLM_F_REQUEST);
        for (index, edit) in edits.iter().enumerate() {
            let ack = if index + 1 == edits.len() { NLM_F_ACK } else { 0 };
            bytes.extend(frame(&nf_tables(edit), NLM_F_REQUEST | edit.flags | ack));
        }
        bytes.extend(frame(&control(ControlMessage::BatchEnd), NLM_F_REQUEST));
        self.socket.send(&bytes, 0).expect("the kernel takes it");
        let (answer, _) = self.socket.recv_from_full().expect("an answer");
        assert_eq!(answer[16..20], [0; 4], "the foreign edit was refused: {answer:?}");
    }

    /// All objects of a kind, as the kernel tells them, without what the kernel puts into headers.
    pub(crate) fn dump(&self, kind: u8, attributes: &[DefaultNla], family: NetfilterProtoFamily) -> Vec<Vec<u8>> {
        let request = Edit { kind, flags: 0, family, attributes: attributes.to_vec() };
        self.socket.send(&frame(&nf_tables(&request), NLM_F_REQUEST | NLM_F_DUMP), 0).expect("the kernel takes it");
        let mut found = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().expect("an answer");
            let mut rest = datagram.as_slice();
            while rest.len() >= 16 {
                let length = usize::try_from(u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]])).expect("small");
                if rest[4..6] == [3, 0] {
                    return found;
                }
                found.push([&rest[16..18], &rest[20..length]].concat());
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            }
        }
    }

    /// The kernel's generation: raised by one with each transaction.
    pub(crate) fn generation(&self) -> u32 {
        let request = Edit { kind: GET_GENERATION, flags: 0, family: INET, attributes: Vec::new() };
        self.socket.send(&frame(&nf_tables(&request), NLM_F_REQUEST), 0).expect("the kernel takes it");
        let (answer, _) = self.socket.recv_from_full().expect("an answer");
        u32::from_be_bytes([answer[24], answer[25], answer[26], answer[27]])
    }
}

fn control(message: ControlMessage) -> NetfilterMessage {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 10);
    NetfilterMessage::new(header, netlink_packet_netfilter::NetfilterMessageInner::None(message))
}

fn nf_tables(edit: &Edit) -> NetfilterMessage {
    let inner = NfTablesMessage::Other { message_type: edit.kind, attributes: edit.attributes.clone() };
    NetfilterMessage::new(NetfilterHeader::new(edit.family, 0, 0), inner)
}

fn frame(message: &NetfilterMessage, flags: u16) -> Vec<u8> {
    let mut framed = NetlinkMessage::from(message.clone());
    framed.header.flags = flags;
    framed.finalize();
    let mut bytes = vec![0; framed.buffer_len()];
    framed.serialize(&mut bytes);
    bytes
}
