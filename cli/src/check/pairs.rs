//! Who calls whom, and which of these ways lead across subnets. Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// A pod that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TestPod {
    pub(super) node: String,
    /// Its addresses, at most one a family; the first is what it is asked by.
    pub(super) addresses: Vec<IpAddr>,
    /// The underlay addresses of its node with their on-link prefixes; none where they are not known.
    pub(super) underlay: Vec<IpNetwork>,
}

/// Indices of callers and called: each pod calls every other, but not more than `most`, those that follow it.
pub(super) fn pairs(pods: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let each = most.min(pods.saturating_sub(1));
    (0..pods).flat_map(move |from| (1..=each).map(move |step| (from, (from + step) % pods)))
}

/// The addresses of `to` that `from` can call: of families that both have.
pub(super) fn targets(from: &TestPod, to: &TestPod) -> Vec<IpAddr> {
    let has = |wanted: &IpAddr| from.addresses.iter().any(|own| own.is_ipv4() == wanted.is_ipv4());
    to.addresses.iter().filter(|address| has(address)).copied().collect()
}

/// True where no subnet has both nodes on it; none where that cannot be told.
pub(super) fn is_across(a: &TestPod, b: &TestPod) -> Option<bool> {
    if a.underlay.is_empty() || b.underlay.is_empty() {
        return None;
    }
    let sees = |network: &IpNetwork, others: &[IpNetwork]| others.iter().any(|other| network.contains(other.ip()));
    let shared =
        a.underlay.iter().any(|own| sees(own, &b.underlay)) && b.underlay.iter().any(|own| sees(own, &a.underlay));
    Some(!shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(addresses: &[&str], underlay: &[&str]) -> TestPod {
        TestPod {
            node: "n".to_owned(),
            addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            underlay: underlay.iter().map(|text| text.parse().expect("a network")).collect(),
        }
    }

    #[test]
    fn everybody_calls_everybody_in_small_clusters_and_some_in_large_ones() {
        let few: Vec<_> = pairs(3, 16).collect();
        assert_eq!(few, [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)]);
        assert_eq!(pairs(1000, 16).count(), 16_000);
        assert!(pairs(1000, 16).all(|(from, to)| from != to));
        assert_eq!((pairs(1, 16).count(), pairs(0, 16).count()), (0, 0));
    }

    #[test]
    fn families_have_to_match() {
        let (four, both) = (pod(&["10.0.0.1"], &[]), pod(&["10.0.0.2", "fd00::2"], &[]));
        assert_eq!(targets(&four, &both), [both.addresses[0]]);
        assert_eq!(targets(&both, &both), both.addresses);
    }

    #[test]
    fn across_is_where_no_subnet_is_shared() {
        let (a1, a2) = (pod(&[], &["192.0.2.1/25"]), pod(&[], &["192.0.2.2/25"]));
        let b1 = pod(&[], &["192.0.2.129/25"]);
        assert_eq!(is_across(&a1, &a2), Some(false));
        assert_eq!(is_across(&a1, &b1), Some(true));
        assert_eq!(is_across(&a1, &pod(&[], &[])), None);
        // One of them takes the other for near: the other does not, and what goes back is routed.
        assert_eq!(is_across(&pod(&[], &["192.0.2.1/24"]), &b1), Some(true));
    }
}
