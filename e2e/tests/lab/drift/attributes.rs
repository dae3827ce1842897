//! Netlink attributes: type, length, value.
//!
//! Owns their layout and nothing of what they mean.

/// The bits of an attribute's type that say what it is; the others say how it is encoded.
const TYPE: u16 = 0x3fff;
const NESTED: u16 = 0x8000;
/// Length of `struct nlattr`.
const HEADER: usize = 4;

/// A message's fixed header and the attributes behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// Begins with this header.
    pub(crate) fn new(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    pub(crate) fn add(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(HEADER + value.len()).expect("what tests send is short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// A number in host byte order, as rtnetlink has them.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.add(kind, &value.to_ne_bytes())
    }

    /// A number in network byte order, as nf_tables has them.
    pub(crate) fn big(self, kind: u16, value: u32) -> Self {
        self.add(kind, &value.to_be_bytes())
    }

    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        self.add(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(crate) fn nest(self, kind: u16, inner: Self) -> Self {
        self.add(kind | NESTED, &inner.bytes())
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The attributes behind a header of `header` bytes.
pub(crate) fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = payload.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..HEADER)?.try_into().ok()?) & TYPE;
        let value = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// One attribute's value.
pub(crate) fn find(payload: &[u8], header: usize, wanted: u16) -> Option<&[u8]> {
    attributes(payload, header).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A number in host byte order.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    value.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A text that ends with a zero byte.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

/// Bytes in hexadecimal, addresses as people write them.
pub(crate) fn shown(value: &[u8]) -> String {
    match value.len() {
        4 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(value).expect("four bytes")).to_string(),
        16 => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(value).expect("sixteen bytes")).to_string(),
        _ => hex(value),
    }
}

pub(crate) fn hex(value: &[u8]) -> String {
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}
