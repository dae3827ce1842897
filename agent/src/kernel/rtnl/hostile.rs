//! Replies that no kernel should send: whatever the bytes, reading them ends, and never in a panic.

use proptest::{collection::vec, prelude::*};

use super::{address, fdb, link, neighbour, nexthop, route, wire};

/// A message of attributes with lengths that may lie, behind a family header of `header` bytes.
fn message(header: usize) -> impl Strategy<Value = Vec<u8>> {
    let attribute = (0..64_u16, vec(any::<u8>(), 0..40), -6..6_i16).prop_map(|(kind, value, lie)| {
        let length = i16::try_from(value.len() + 4).expect("small").saturating_add(lie).max(0);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(&value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    });
    (vec(any::<u8>(), header), vec(attribute, 0..12))
        .prop_map(|(head, attributes)| [head, attributes.concat()].concat())
}

/// Reads `payload` as every kind of object.
fn read_as_everything(payload: &[u8]) {
    let _ = link::Link::read(payload);
    let _ = address::Address::read(payload);
    let _ = neighbour::Neighbour::read(payload);
    let _ = fdb::Entry::read(payload);
    let _ = nexthop::Nexthop::read(payload).map(|nexthop| nexthop.seen(Some(1)));
    let _ = route::Found::read(payload).map(|found| found.seen(|_| None));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(datagram in vec(any::<u8>(), 0..300)) {
        let frames: Vec<_> = wire::frames(&datagram).collect();
        prop_assert!(frames.len() <= datagram.len() / wire::HEADER + 1);
        for frame in frames.into_iter().flatten() {
            let _ = wire::Refusal::read(&frame, false);
            let _ = wire::Refusal::read(&frame, true);
            read_as_everything(frame.payload);
        }
        read_as_everything(&datagram);
    }

    #[test]
    fn lying_lengths_harm_nobody(payload in prop_oneof![message(8), message(12), message(16)]) {
        read_as_everything(&payload);
        for header in [0, 8, 12, 16] {
            prop_assert!(wire::attributes(&payload, header).count() <= payload.len() / 4);
        }
    }

    #[test]
    fn a_message_cut_short_harms_nobody(payload in message(16), cut in 0..400_usize) {
        read_as_everything(&payload[..cut.min(payload.len())]);
    }
}
