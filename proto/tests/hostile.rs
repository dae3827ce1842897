//! Messages that no honest sender makes: whatever they hold, they are refused by field and value, or typed and whole.

use proptest::{collection::vec, option, prelude::*};
use prost::Message;
use weft_core::{
    membership::Member,
    settings::Settings,
    standing::{Facts, GATEWAYS},
    types::{Family, Revision},
};
use weft_proto::{
    convert::{SnapshotBuilder, delta, to_cidr},
    v1,
};

fn cidr() -> impl Strategy<Value = v1::Cidr> {
    let lengths = prop_oneof![Just(4_usize), Just(16), 0..20_usize];
    let address = lengths.prop_flat_map(|length| vec(any::<u8>(), length));
    (address, 0..140_u32).prop_map(|(address, prefix)| v1::Cidr { address, prefix })
}

prop_compose! {
    fn member()(
        name in prop_oneof!["[a-z0-9.-]{0,8}", ".{0,300}"],
        incarnation in any::<u64>(),
        pod_cidrs in vec(cidr(), 0..4),
        mac in vec(any::<u8>(), 0..8),
        underlay_addresses in vec(cidr(), 0..4),
        underlay_mtu in any::<u32>(),
        more in vec(any::<u8>(), 0..9),
    ) -> v1::Member {
        v1::Member { name, incarnation, pod_cidrs, mac, underlay_addresses, underlay_mtu, more }
    }
}

prop_compose! {
    fn settings()(
        pools in vec(cidr(), 0..4),
        mode in -1..6_i32,
        vni in prop_oneof![any::<u32>(), 0..3_u32],
        port in prop_oneof![any::<u32>(), 0..3_u32],
        outer_family in -1..4_i32,
        more in vec(any::<u8>(), 0..9),
    ) -> v1::Settings {
        v1::Settings { pools, mode, vni, port, outer_family, more }
    }
}

fn change() -> impl Strategy<Value = v1::Change> {
    let kind = prop_oneof![
        member().prop_map(v1::change::Change::Upsert),
        ".{0,20}".prop_map(v1::change::Change::Departed),
        settings().prop_map(v1::change::Change::Settings),
    ];
    (any::<u64>(), option::of(kind)).prop_map(|(sequence, change)| v1::Change { sequence, change })
}

proptest! {
    #[test]
    fn a_member_is_refused_by_field_or_survives_the_round_trip(wire in member()) {
        match Member::try_from(wire) {
            Ok(member) => prop_assert_eq!(Member::try_from(v1::Member::from(&member)), Ok(member)),
            Err(error) => prop_assert!(!error.field.is_empty() && !error.message.is_empty()),
        }
    }

    #[test]
    fn settings_are_refused_by_field_or_hold_pools_apart(wire in settings()) {
        match Settings::try_from(wire) {
            Ok(settings) => {
                for (at, pool) in settings.pools.iter().enumerate() {
                    prop_assert!(settings.pools[at + 1..].iter().all(|other| !pool.overlaps(other)));
                }
            }
            Err(error) => prop_assert!(!error.field.is_empty()),
        }
    }

    #[test]
    fn facts_hold_one_address_a_family(underlay_addresses in vec(cidr(), 0..4), underlay_mtu in any::<u32>(), gateways in vec(vec(any::<u8>(), 0..20), 0..12), agent_version in ".{0,80}") {
        if let Ok(facts) = Facts::try_from(v1::Facts { underlay_addresses, underlay_mtu, gateways, agent_version, generation: 0 }) {
            for family in Family::ALL {
                prop_assert!(facts.underlay.get(family).is_none_or(|address| address.family() == family));
            }
            prop_assert!(facts.gateways.len() <= GATEWAYS);
            prop_assert!(!facts.agent_version.chars().any(char::is_control));
        }
    }

    #[test]
    fn deltas_and_snapshots_never_panic(changes in vec(change(), 0..6), members in vec(member(), 0..6), count in 0..8_u32) {
        let at = Revision::new(1, 2);
        let _ = delta(at, v1::Delta { from: Some(at.into()), changes });
        let mut snapshot = SnapshotBuilder::default();
        if snapshot.chunk(at, v1::SnapshotChunk { members }).is_ok() {
            let _ = snapshot.end(at, v1::SnapshotEnd { settings: None, member_count: count, ..Default::default() });
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = v1::WatchRequest::decode(bytes.as_slice());
        if let Ok(v1::WatchResponse { message: Some(v1::watch_response::Message::Delta(wire)), .. }) = v1::WatchResponse::decode(bytes.as_slice()) {
            let _ = delta(Revision::default(), wire);
        }
    }
}

#[test]
fn the_edges_of_prefixes_are_exact() {
    for text in ["10.0.0.0/30", "fd00::/126", "10.0.0.0/8"] {
        let network: ipnetwork::IpNetwork = text.parse().expect("valid");
        let mut wire = v1::Member { name: "a".to_owned(), mac: vec![2; 6], underlay_mtu: 1500, ..Default::default() };
        wire.pod_cidrs.push(to_cidr(network));
        assert!(Member::try_from(wire).is_ok(), "{text} was refused");
    }
}

#[test]
fn a_kind_of_message_that_comes_with_a_later_version_is_none_and_no_error() {
    // Field 15 of length 0: nothing that this version knows.
    let response = v1::WatchResponse::decode([0x7a, 0].as_slice()).expect("unknown fields are skipped");
    assert_eq!(response.message, None);
    // To a version before it, CleanUp looks the same; it must not be taken for an empty membership.
    let order =
        v1::WatchResponse { revision: None, message: Some(v1::watch_response::Message::CleanUp(v1::CleanUp {})) };
    assert_eq!(order.encode_to_vec(), [0x32, 0]);
}
