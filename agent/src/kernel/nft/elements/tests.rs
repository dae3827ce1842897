//! What is written reads back, and what is not of ours is told.

use proptest::prelude::*;

use super::*;

fn read_back(set: SetName, keys: &[Key]) -> Content {
    let mut reader = Reader::new(set);
    for (attributes, _) in lists(set, keys) {
        reader.take(&Parsed::new(attributes.as_bytes()).expect("well-formed")).expect("well-formed");
    }
    reader.finish()
}

fn elements(set: SetName, networks: &[&str]) -> Vec<Key> {
    networks.iter().map(|text| Key::Element(set, text.parse().expect("a network"))).collect()
}

#[test]
fn neighbours_and_the_last_address_read_back() {
    for (family, texts) in [
        (Family::V4, &["10.0.0.0/16", "10.1.0.0/16", "255.255.255.0/24", "0.0.0.0/8"][..]),
        (Family::V6, &["fd00::/48", "fd00:0:1::/48", "ffff::/16", "::/16"][..]),
    ] {
        let wanted = elements(SetName::Pools(family), texts);
        let content = read_back(SetName::Pools(family), &wanted);
        assert_eq!(content.keys, wanted.into_iter().collect());
        assert!(content.foreign.is_empty(), "{:?}", content.foreign);
    }
}

#[test]
fn a_range_that_is_no_network_is_foreign() {
    let mut reader = Reader::new(SetName::Pools(Family::V4));
    reader.raws.push(Raw { key: vec![10, 0, 0, 1], start: true });
    reader.raws.push(Raw { key: vec![10, 0, 0, 4], start: false });
    let content = reader.finish();
    assert!(content.keys.is_empty() && content.foreign.len() == 1, "{content:?}");
}

#[test]
fn pairs_read_back_and_those_that_no_rule_looks_up_are_foreign() {
    for (outer, inner) in [("10.0.0.9", "10.244.1.0/24"), ("10.0.0.9", "fd00::/64"), ("fd00::9", "10.244.0.0/20")] {
        let pair = Key::Bound(outer.parse().expect("an address"), inner.parse().expect("a network"));
        let set = pair.set().expect("it is an element");
        assert_eq!(read_back(set, &[pair]).keys, BTreeSet::from([pair]));
        let mut reader = Reader::new(set);
        reader.raws.extend(raws(&pair));
        reader.raws[0].key[key_length(set) - 1] = 1;
        let content = reader.finish();
        assert!(content.keys.is_empty() && content.foreign.len() == 1, "{content:?}");
    }
}

// More than what one message takes, of the longest elements.
#[test]
fn a_thousand_networks_of_ipv6_are_cut_before_a_message_is_full() {
    let network = |n: u32| Ipv6Addr::from((0xfd00_u128 << 112) + (u128::from(n) << 65)).into();
    let key = |n| Key::Element(SetName::Pools(Family::V6), IpNetwork::new(network(n), 64).expect("a network"));
    let wanted: Vec<Key> = (0..3000).map(key).collect();
    assert_eq!(read_back(SetName::Pools(Family::V6), &wanted).keys, wanted.into_iter().collect());
}

proptest! {
    #[test]
    fn any_addresses_read_back(values in prop::collection::btree_set(any::<u32>(), 1..4000)) {
        let key = |value| Key::Element(SetName::Peers(Family::V4), IpAddr::from(Ipv4Addr::from(value)).into());
        let wanted: BTreeSet<Key> = values.into_iter().map(key).collect();
        let list: Vec<Key> = wanted.iter().copied().collect();
        prop_assert_eq!(read_back(SetName::Peers(Family::V4), &list).keys, wanted);
    }
}
