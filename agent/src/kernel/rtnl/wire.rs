//! Netlink framing: messages in a datagram, attributes in a message, and the reason in a refusal.
//!
//! Owns reading bytes of the kernel without ever failing on what it does not know: a new attribute, or one of another
//! length, is passed over. (The packet crate's own parsers refuse a whole message for one such attribute, and one strange
//! link of a host would then blind the agent.) Must never know what an attribute means.

use std::net::IpAddr;

use netlink_packet_core::{NLA_TYPE_MASK, NLM_F_ACK_TLVS, NLM_F_CAPPED};
use weft_core::types::{LinkName, Mac};

/// Length of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// Length of an attribute's header (`struct nlattr`).
const ATTRIBUTE_HEADER: usize = 4;
/// `NLMSGERR_ATTR_MSG` (include/uapi/linux/netlink.h).
const ERROR_TEXT: u16 = 1;

/// One netlink message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// `nlmsg_type`.
    pub(crate) kind: u16,
    /// `nlmsg_flags`.
    pub(crate) flags: u16,
    /// `nlmsg_seq`.
    pub(crate) sequence: u32,
    /// `nlmsg_pid`: who caused it, where the kernel says so.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

/// The messages of a datagram. A cut message yields `None` and ends the walk.
pub(crate) fn frames(mut datagram: &[u8]) -> impl Iterator<Item = Option<Frame<'_>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let frame = first_frame(datagram);
        let length = frame.map_or(datagram.len(), |frame| align(HEADER + frame.payload.len()));
        datagram = datagram.get(length..).unwrap_or_default();
        Some(frame)
    })
}

fn first_frame(datagram: &[u8]) -> Option<Frame<'_>> {
    let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
    Some(Frame {
        kind: u16_at(datagram, 4)?,
        flags: u16_at(datagram, 6)?,
        sequence: u32_at(datagram, 8)?,
        port: u32_at(datagram, 12)?,
        payload: datagram.get(HEADER..length)?,
    })
}

/// The attributes that follow a message's family header of `header` bytes.
pub(crate) fn attributes(payload: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    nested(payload.get(header..).unwrap_or_default())
}

/// The attributes in a nested attribute's value.
pub(crate) fn nested(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The kernel's answer to one request: NLMSG_ERROR, whose code 0 is an ack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The error number, positive.
    pub(crate) errno: i32,
    /// The extended ack, or what the error number means.
    pub(crate) message: String,
    /// The message is the kernel's own: it found fault with the request.
    pub(crate) explained: bool,
}

impl Refusal {
    /// Reads the payload of NLMSG_ERROR (`struct nlmsgerr`) or NLMSG_DONE; `None` where it says success.
    pub(crate) fn read(frame: &Frame<'_>, is_done: bool) -> Option<Self> {
        let code = u32_at(frame.payload, 0).map_or(0, u32::cast_signed);
        if code == 0 {
            return None;
        }
        let texts = frame.payload.get(4..).unwrap_or_default();
        let skip = if is_done { 0 } else { echoed(texts, frame.flags) };
        let told = frame.flags & NLM_F_ACK_TLVS != 0 || is_done;
        let text = texts.get(skip..).filter(|_| told).and_then(error_text);
        let errno = code.saturating_abs();
        let explained = text.is_some();
        let message = text.unwrap_or_else(|| meaning(errno));
        Some(Self { errno, message, explained })
    }
}

/// What the C library would say to an error number, without the number.
pub(crate) fn meaning(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// How much of the request the kernel echoes before the extended ack: its header, or all of it.
fn echoed(texts: &[u8], flags: u16) -> usize {
    if flags & NLM_F_CAPPED != 0 {
        return HEADER;
    }
    u32_at(texts, 0).and_then(|length| usize::try_from(length).ok()).map_or(HEADER, align)
}

fn error_text(texts: &[u8]) -> Option<String> {
    let (_, text) = nested(texts).find(|(kind, _)| *kind == ERROR_TEXT)?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
}

const fn align(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Two bytes in host order.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// Four bytes in host order.
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// An attribute that is one number of four bytes in host order.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    u32_at(value, 0)
}

/// An attribute that is an IP address, its family told by its length.
pub(crate) fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

/// An attribute that is an Ethernet address.
pub(super) fn mac(value: &[u8]) -> Option<Mac> {
    Mac::try_from(value).ok()
}

/// An attribute that is a text with its closing zero.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

/// An attribute that is an interface's name.
pub(super) fn link_name(value: &[u8]) -> Option<LinkName> {
    text(value).and_then(|text| LinkName::new(text).ok())
}

/// Messages as a kernel would send them.
#[cfg(test)]
pub(crate) mod made {
    use super::{ATTRIBUTE_HEADER, HEADER, align};

    /// A message with its header.
    pub(crate) fn frame(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(HEADER + payload.len()).expect("short").to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(9_u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    /// An attribute with its header.
    pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("short").to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{
        made::{attribute, frame},
        *,
    };

    #[test]
    fn a_cut_datagram_is_told_from_a_whole_one() {
        let mut datagram = frame(16, 0, 7, &[1, 2, 3]);
        datagram.extend(frame(17, 0, 7, &[4; 8]));
        let kinds: Vec<_> = frames(&datagram).map(|frame| frame.map(|frame| frame.kind)).collect();
        assert_eq!(kinds, [Some(16), Some(17)]);
        let cut: Vec<_> = frames(&datagram[..datagram.len() - 4]).map(|frame| frame.map(|frame| frame.kind)).collect();
        assert_eq!(cut, [Some(16), None]);
    }

    #[test]
    fn attributes_of_any_kind_and_length_are_walked() {
        let mut bytes = vec![0xaa; 8];
        bytes.extend(attribute(3, b"eth0\0"));
        bytes.extend(attribute(0x8000 | 60, &[1]));
        bytes.extend(attribute(4, &1500_u32.to_ne_bytes()));
        let found: Vec<_> = attributes(&bytes, 8).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(link_name(found[0].1), LinkName::new("eth0").ok());
        assert_eq!(found[1].0, 60);
        assert_eq!(number(found[2].1), Some(1500));
    }

    #[test]
    fn refusals_carry_the_kernels_own_words() {
        let mut payload = (-22_i32).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend(attribute(ERROR_TEXT, b"Nexthop id does not exist\0"));
        let bytes = frame(2, NLM_F_CAPPED | NLM_F_ACK_TLVS, 7, &payload);
        let frame = frames(&bytes).next().flatten().expect("a whole message");
        let refusal = Refusal::read(&frame, false).expect("a refusal");
        assert_eq!((refusal.errno, refusal.message.as_str()), (22, "Nexthop id does not exist"));
    }

    #[test]
    fn refusals_without_words_say_what_the_number_means() {
        let mut payload = (-17_i32).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        let bytes = frame(2, NLM_F_CAPPED, 7, &payload);
        let frame = frames(&bytes).next().flatten().expect("a whole message");
        assert_eq!(Refusal::read(&frame, false).expect("a refusal").message, "File exists");
    }
}
