//! Pod CIDRs that lie in no pool.
//!
//! An operator takes a pool away, and nodes keep their pod CIDRs: their pods go on being pods. Owns what of a member's pod CIDRs
//! no pool covers, as networks that share nothing with a pool, since interval sets refuse overlaps. Must never look at more
//! than one member: a change of one concerns its elements only.

use ipnetwork::IpNetwork;

use crate::{
    kernel::Key,
    membership::Member,
    nft::SetName,
    types::{Family, PodCidr},
};

/// The elements that a member's pod CIDRs need beside the pools.
pub(super) fn elements<'a>(pools: &'a [PodCidr], member: &'a Member) -> impl Iterator<Item = Key> + 'a {
    let outside = member.pod_cidrs.iter().flat_map(|cidr| without(cidr.network(), pools));
    outside.map(|network| Key::Element(SetName::Pools(Family::of(network.ip())), network))
}

/// What is left of a network beside the pools. Networks contain each other or share nothing.
fn without(network: IpNetwork, pools: &[PodCidr]) -> Vec<IpNetwork> {
    let contains = |wide: IpNetwork, narrow: IpNetwork| wide.prefix() <= narrow.prefix() && wide.contains(narrow.ip());
    let of_family = || pools.iter().map(|pool| pool.network()).filter(|pool| pool.is_ipv4() == network.is_ipv4());
    if of_family().any(|pool| contains(pool, network)) {
        return Vec::new();
    }
    if !of_family().any(|pool| contains(network, pool)) {
        return vec![network];
    }
    halves(network).into_iter().flatten().flat_map(|half| without(half, pools)).collect()
}

/// The two halves of a network; none of a single address.
fn halves(network: IpNetwork) -> Option<[IpNetwork; 2]> {
    let prefix = network.prefix() + 1;
    let lower = IpNetwork::new(network.network(), prefix).ok()?;
    let upper = IpNetwork::new(network.broadcast(), prefix).ok()?;
    Some([lower, IpNetwork::new(upper.network(), prefix).ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(network: &str, pools: &[&str]) -> Vec<String> {
        let pools: Vec<PodCidr> = pools.iter().map(|pool| pool.parse().expect("a CIDR")).collect();
        let left = without(network.parse().expect("a network"), &pools);
        left.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_pools_cover_needs_nothing_and_the_rest_shares_nothing_with_them() {
        for (network, pools, expected) in [
            ("10.244.1.0/24", &["10.244.0.0/16"][..], &[][..]),
            ("10.244.1.0/24", &["10.244.1.0/24", "fd00::/48"], &[]),
            ("10.244.1.0/24", &["10.245.0.0/16", "fd00::/48"], &["10.244.1.0/24"]),
            ("10.244.1.0/24", &["10.244.1.0/26"], &["10.244.1.64/26", "10.244.1.128/25"]),
            ("10.244.1.0/24", &["10.244.1.0/25", "10.244.1.128/25"], &[]),
            ("fd00:0:0:1::/64", &["fd00:0:0:2::/64"], &["fd00:0:0:1::/64"]),
        ] {
            assert_eq!(left(network, pools), expected, "{network} without {pools:?}");
        }
    }
}
