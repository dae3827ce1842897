//! Netlink messages of the netfilter subsystem as bytes: attributes written and read.
//!
//! Owns the framing (include/uapi/linux/netlink.h, netfilter/nfnetlink.h) and nothing of what attributes mean. Bytes
//! are kept as they are because drift shows in attributes that a typed decoder would drop. Must never panic on what it
//! reads.

use weft_core::kernel::Key;

/// `NLM_F_REQUEST`.
pub(super) const REQUEST: u16 = 0x01;
/// `NLM_F_ACK`.
pub(super) const ACK: u16 = 0x04;
/// `NLM_F_DUMP_INTR`: something changed while the kernel was dumping.
pub(super) const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_CAPPED`: the error does not echo the request's payload.
pub(super) const CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: extended acks follow.
pub(super) const ACK_TLVS: u16 = 0x200;
/// `NLM_F_DUMP`.
pub(super) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub(super) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`: behind the rules that are there.
pub(super) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`.
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`.
pub(super) const DONE: u16 = 3;

/// `NFNL_SUBSYS_NFTABLES`, as it stands in the upper half of a message type.
pub(super) const SUBSYSTEM: u16 = 10;
/// `NFPROTO_UNSPEC`.
pub(super) const UNSPEC: u8 = 0;
/// `NFPROTO_INET`.
pub(super) const INET: u8 = 1;

/// `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// `struct nfgenmsg`.
pub(super) const FAMILY_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`.
const TYPE: u16 = 0x3fff;

/// What was read is no well-formed list of attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's message is malformed")]
pub(super) struct Malformed;

/// Attributes being written. Numbers are in network byte order, as nf_tables wants them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// No attributes.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute with these bytes.
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// Adds a 32-bit number.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text with its closing zero.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds a nest.
    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// Adds an attribute in place, for lists that are built in a loop.
    pub(super) fn push_nest(&mut self, kind: u16, inner: &Self) {
        self.push(kind | NESTED, &inner.0);
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("lists are cut before 64 KiB");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Length in bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Attributes being read, in their order.
#[derive(Debug, Clone)]
pub(super) struct Parsed<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Parsed<'a> {
    /// Reads a list of attributes.
    pub(super) fn new(mut bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut found = Vec::new();
        while bytes.len() >= ATTRIBUTE_HEADER {
            let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & TYPE;
            let value = bytes.get(ATTRIBUTE_HEADER..length).ok_or(Malformed)?;
            found.push((kind, value));
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        if bytes.is_empty() { Ok(Self(found)) } else { Err(Malformed) }
    }

    /// The attributes with their kinds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + '_ {
        self.0.iter().copied()
    }

    /// The first attribute of this kind.
    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value)
    }

    /// The nest of this kind, empty where it is missing.
    pub(super) fn nest(&self, kind: u16) -> Result<Self, Malformed> {
        Self::new(self.get(kind).unwrap_or_default())
    }

    /// A 32-bit number, none where it is missing or of another size.
    pub(super) fn number(&self, kind: u16) -> Option<u32> {
        self.get(kind).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes)
    }

    /// A 64-bit number, none where it is missing or of another size.
    pub(super) fn long(&self, kind: u16) -> Option<u64> {
        self.get(kind).and_then(|value| value.try_into().ok()).map(u64::from_be_bytes)
    }

    /// A text without its closing zero.
    pub(super) fn text(&self, kind: u16) -> Option<String> {
        let value = self.get(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        Some(String::from_utf8_lossy(&value[..end]).into_owned())
    }

    /// True where, of the kinds up to `newest`, exactly `wanted` are there, once each. Kinds above `newest` are of a
    /// kernel later than this program; taking them for an edit would mean to repair for ever.
    pub(super) fn is_exactly(&self, wanted: &[u16], newest: u16) -> bool {
        let mut known: Vec<u16> = self.0.iter().map(|(kind, _)| *kind).filter(|kind| *kind <= newest).collect();
        known.sort_unstable();
        known == wanted
    }
}

/// One message to the kernel.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// `NFT_MSG_…`.
    pub(super) kind: u16,
    /// `NLM_F_…` beside REQUEST.
    pub(super) flags: u16,
    /// The family in its `nfgenmsg`.
    pub(super) family: u8,
    /// Its attributes.
    pub(super) attributes: Attributes,
    /// Whose objects it is about: they fail when it is refused.
    pub(super) keys: Vec<Key>,
}

impl Message {
    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        HEADER + FAMILY_HEADER + self.attributes.len()
    }

    /// Appends the message to `buffer`.
    pub(super) fn write(&self, buffer: &mut Vec<u8>, more_flags: u16, sequence: u32) {
        let kind = (SUBSYSTEM << 8) | self.kind;
        let head = Head { kind, flags: self.flags | more_flags, family: self.family, resource: 0 };
        head.write(buffer, sequence, self.attributes.as_bytes());
    }
}

/// The two headers of a netfilter message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// The whole message type.
    pub(super) kind: u16,
    /// `NLM_F_…` beside REQUEST.
    pub(super) flags: u16,
    /// `NFPROTO_…`.
    pub(super) family: u8,
    /// `res_id`; the subsystem, for the ends of a batch.
    pub(super) resource: u16,
}

impl Head {
    /// Appends the headers and `payload`.
    pub(super) fn write(self, buffer: &mut Vec<u8>, sequence: u32, payload: &[u8]) {
        let length = u32::try_from(HEADER + FAMILY_HEADER + payload.len()).expect("a message is below 4 GiB");
        buffer.extend(length.to_ne_bytes());
        buffer.extend(self.kind.to_ne_bytes());
        buffer.extend((self.flags | REQUEST).to_ne_bytes());
        buffer.extend(sequence.to_ne_bytes());
        buffer.extend([0; 4]);
        buffer.extend([self.family, 0]);
        buffer.extend(self.resource.to_be_bytes());
        buffer.extend(payload);
    }
}

/// One message from the kernel, without its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    /// The whole message type.
    pub(super) kind: u16,
    /// `NLM_F_…`.
    pub(super) flags: u16,
    /// The request it belongs to.
    pub(super) sequence: u32,
    /// Port id of whoever caused it.
    pub(super) port: u32,
    /// Everything behind the `nlmsghdr`.
    pub(super) payload: &'a [u8],
}

/// Splits a datagram into messages.
pub(super) fn messages(mut bytes: &[u8]) -> Result<Vec<Received<'_>>, Malformed> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header = bytes.get(..HEADER).ok_or(Malformed)?;
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let length = usize::try_from(word(0)).map_err(|_| Malformed)?;
        let payload = bytes.get(HEADER..length).ok_or(Malformed)?;
        found.push(Received { kind: half(4), flags: half(6), sequence: word(8), port: word(12), payload });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_survive_the_round_trip() {
        let inner = Attributes::new().number(7, 0x0102_0304);
        let written = Attributes::new().text(1, "weft").bytes(2, &[9]).nest(3, &inner);
        let read = Parsed::new(written.as_bytes()).expect("well-formed");
        assert_eq!(read.text(1).as_deref(), Some("weft"));
        assert_eq!(read.get(2), Some(&[9][..]));
        assert_eq!(read.nest(3).expect("a nest").number(7), Some(0x0102_0304));
        assert!(read.is_exactly(&[1, 2, 3], 3) && !read.is_exactly(&[1, 2], 3) && read.is_exactly(&[1, 2], 2));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = messages(&bytes);
            let _ = Parsed::new(&bytes);
        }
    }
}
