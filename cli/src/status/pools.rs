//! How full the pools are, by what has pod CIDRs.
//!
//! Owns the count. Must never count a CIDR twice that both a claim and a Vtep name.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use kube::core::DeserializeGuard;
use serde::Serialize;
use weft_api::{AllocationPool, PodCidrClaim, Vtep};

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pool {
    cidr: String,
    node_prefix: u8,
    /// Which nodes it is for; all where it is empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    selector: String,
    used: u64,
    quarantined: u64,
    total: u64,
}

/// The objects that can be read; the others are named.
pub(super) fn readable<K>(kind: &str, objects: Vec<DeserializeGuard<K>>, unreadable: &mut Vec<String>) -> Vec<K> {
    let read = |object: DeserializeGuard<K>| {
        let name = |error: &kube::core::error_boundary::InvalidObject| error.metadata.name.clone().unwrap_or_default();
        object.0.map_err(|error| unreadable.push(format!("{kind} {}: {}", name(&error), error.error))).ok()
    };
    objects.into_iter().filter_map(read).collect()
}

/// The pools with what is taken of them.
pub(super) fn usage(
    pools: &[AllocationPool],
    claims: &[PodCidrClaim],
    vteps: &[Vtep],
    unreadable: &mut Vec<String>,
) -> Vec<Pool> {
    let taken = taken(claims, vteps);
    let mut usage = Vec::with_capacity(pools.len());
    for pool in pools {
        let Ok(network) = pool.cidr.parse::<IpNetwork>() else {
            unreadable.push(format!("pool {:?} is no network", pool.cidr));
            continue;
        };
        let count = |released: bool| {
            let inside =
                taken.iter().filter(|(cidr, is_released)| **is_released == released && is_inside(network, **cidr));
            u64::try_from(inside.count()).unwrap_or(u64::MAX)
        };
        let bits = u32::from(pool.node_prefix.saturating_sub(network.prefix()));
        usage.push(Pool {
            cidr: pool.cidr.clone(),
            node_prefix: pool.node_prefix,
            selector: pool.selector.clone(),
            used: count(false),
            quarantined: count(true),
            total: 1_u64.checked_shl(bits).unwrap_or(u64::MAX),
        });
    }
    usage
}

/// Every CIDR that somebody has (false) or that is not free again yet (true).
fn taken(claims: &[PodCidrClaim], vteps: &[Vtep]) -> BTreeMap<IpNetwork, bool> {
    let of_vteps = |departed: bool| {
        let chosen = vteps.iter().filter(move |vtep| vtep.spec.departed == departed);
        chosen.flat_map(|vtep| &vtep.spec.pod_cidrs)
    };
    let of_claims = |released: bool| {
        claims.iter().filter(move |claim| claim.spec.released == released).map(|claim| &claim.spec.cidr)
    };
    let parsed = |text: &String| text.parse::<IpNetwork>().ok();
    let used: BTreeSet<IpNetwork> = of_vteps(false).chain(of_claims(false)).filter_map(parsed).collect();
    let released = of_vteps(true).chain(of_claims(true)).filter_map(parsed);
    // Whoever has it now counts, not who had it.
    released.map(|cidr| (cidr, true)).chain(used.iter().map(|cidr| (*cidr, false))).collect()
}

fn is_inside(pool: IpNetwork, cidr: IpNetwork) -> bool {
    cidr.prefix() >= pool.prefix() && pool.contains(cidr.ip())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(cidr: &str, released: bool) -> PodCidrClaim {
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "PodCidrClaim", "metadata": {"name": "x"},
            "spec": {"cidr": cidr, "node": "a", "incarnation": 1, "released": released},
        }))
        .expect("a claim")
    }

    fn vtep(cidrs: &[&str], departed: bool) -> Vtep {
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "Vtep", "metadata": {"name": "a"},
            "spec": {"nodeUid": "7", "incarnation": 1, "mac": "", "podCIDRs": cidrs, "departed": departed},
        }))
        .expect("a Vtep")
    }

    #[test]
    fn every_cidr_counts_once() {
        let pool =
            |cidr: &str, node_prefix| AllocationPool { cidr: cidr.to_owned(), node_prefix, ..Default::default() };
        let pools = [pool("10.244.0.0/16", 24), pool("fd00:10:244::/48", 64)];
        let claims = [claim("10.244.1.0/24", false), claim("10.244.2.0/24", true), claim("10.9.0.0/24", false)];
        let vteps = [
            vtep(&["10.244.1.0/24", "fd00:10:244:1::/64"], false),
            // Allocated by somebody else: there is no claim of it.
            vtep(&["10.244.3.0/24"], false),
            vtep(&["10.244.2.0/24", "10.244.3.0/24"], true),
        ];
        let mut unreadable = Vec::new();
        let usage = usage(&pools, &claims, &vteps, &mut unreadable);
        let counts: Vec<_> = usage.iter().map(|pool| (pool.used, pool.quarantined, pool.total)).collect();
        assert_eq!(counts, [(2, 1, 256), (1, 0, 65_536)]);
        assert!(unreadable.is_empty());
    }
}
