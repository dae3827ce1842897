//! The octets that agents of version 0.1 hash, and those beyond.

use super::*;
use crate::types::{Mac, PerFamily, UnderlayAddress, Vni};

/// Written down by hand from what version 0.1 hashes, not with the code under test.
const FIRST: &str = concat!(
    "77656674206d656d626572203100", // "weft member 1" and a zero
    "0000000000000002",
    "6131", // "a1"
    "0000000000000003",
    "025700000001",
    "000005dc",
    "040af4010018",
    "04c000020718",
    "06fd00024400000000000000000000000040",
    "00",
);
const SECOND: &str = concat!(
    "77656674206d656d626572203100",
    "000000000000000e",
    "6e6f64652d622e6578616d706c65",
    "0000000069248100",
    "0257aabbccdd",
    "00000000",
    "00",
    "00",
    "00",
    "00",
);
const SETTINGS_OF_0_1: &str = concat!(
    "776566742073657474696e6773203100", // "weft settings 1" and a zero
    "0000000000000002",
    "040af4000010",
    "06fd00024400000000000000000000000030",
    "01",
    "00000057",
    "12b5",
    "04",
);

fn first() -> Member {
    let underlay = |text: &str| text.parse::<UnderlayAddress>().expect(text);
    Member {
        name: "a1".parse().expect("a name"),
        incarnation: 3,
        pod_cidrs: PerFamily {
            v4: Some("10.244.1.0/24".parse().expect("a CIDR")),
            v6: Some("fd00:244::/64".parse().expect("a CIDR")),
        },
        endpoint: crate::encap::Endpoint::Vxlan { mac: Mac::local([2, 0x57, 0, 0, 0, 1]) },
        underlay: PerFamily { v4: Some(underlay("192.0.2.7/24")), v6: None },
        underlay_mtu: 1500,
        more: More::default(),
    }
}

fn second() -> Member {
    Member {
        name: "node-b.example".parse().expect("a name"),
        incarnation: 0x6924_8100,
        pod_cidrs: PerFamily::default(),
        endpoint: crate::encap::Endpoint::Vxlan { mac: Mac::local([2, 0x57, 0xaa, 0xbb, 0xcc, 0xdd]) },
        underlay: PerFamily::default(),
        underlay_mtu: 0,
        more: More::default(),
    }
}

fn settings() -> Settings {
    Settings {
        pools: ["10.244.0.0/16", "fd00:244::/48"].map(|pool| pool.parse().expect(pool)).into(),
        mode: Mode::CrossSubnet,
        encapsulation: crate::encap::Encapsulation::Vxlan {
            vni: Vni::new(87).expect("in range"),
            port: 4789,
            outer: Family::V4,
        },
        more: More::default(),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn version_0_1_hashes_these_octets_and_no_others() {
    assert_eq!(hex(&encode_member(&first())), FIRST);
    assert_eq!(hex(&encode_member(&second())), SECOND);
    assert_eq!(hex(&encode_settings(&settings())), SETTINGS_OF_0_1);
    let digests = Digests::of(&settings(), [&first(), &second()]);
    assert_eq!(digests.typed.to_string(), "75a172bafec792f453880e16caefd79d");
    assert_eq!(digests.more, Digest::default());
}

#[test]
fn what_later_versions_say_changes_the_second_digest_only() {
    let plain = Digests::of(&settings(), [&first(), &second()]);
    let member = Member { more: More::new([0x0a, 1, 5]), ..first() };
    let settings = Settings { more: More::new([8, 1]), ..settings() };
    let more = Digests::of(&settings, [&member, &second()]);
    assert_eq!(more.typed, plain.typed, "an agent of version 0.1 would ask for snapshots for ever");
    // Each counts: the same octets at another member, or in the settings, are something else.
    let elsewhere = Digests::of(&settings, [&first(), &Member { more: More::new([0x0a, 1, 5]), ..second() }]);
    assert_eq!(more.more.to_string(), "0b1d3556835cb5d5bef0b541e24e10d1");
    assert_ne!(more.more, elsewhere.more);
}

#[test]
fn a_peer_of_version_0_1_is_believed_about_what_it_knows() {
    let settings = Settings { more: More::new([8, 1]), ..settings() };
    let digests = Digests::of(&settings, [&first()]);
    assert!(Told { typed: digests.typed, more: None }.is_of(&digests));
    assert!(!Told { typed: digests.typed, more: Some(Digest::default()) }.is_of(&digests));
    assert!(!Told { typed: Digest::default(), more: Some(digests.more) }.is_of(&digests));
}
