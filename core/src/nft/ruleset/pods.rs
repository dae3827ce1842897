//! What may come out of a pod.
//!
//! Owns the check of pods' sources. Must never depend on settings: a pod is what it is in every cluster.

use std::net::IpAddr;

use super::{Contribution, Place};
use crate::{
    nft::{CounterName, Expr, Rule},
    types::Family,
    veth::{GATEWAY_V4, GATEWAY_V6, POD_LINK_PREFIX},
};

/// Pods are kept to their own addresses, before anything else looks at their packets.
pub(super) fn rules() -> Vec<Contribution> {
    vec![Contribution { place: Place::Prerouting, rules: sources() }]
}

/// What comes out of a pod has the pod's own address, and goes anywhere but to the gateway itself, whose services are the
/// host's. rp_filter knows no IPv6, and an administrator may have loosened it.
fn sources() -> Vec<Rule> {
    let rule = |more: Vec<Expr>| [vec![out_of_a_pod()], more].concat();
    let network = |text: &str| text.parse().expect("a network");
    let dropped = |counter| [Expr::Counter(counter), Expr::Drop];
    let gateways = [IpAddr::V4(GATEWAY_V4), IpAddr::V6(GATEWAY_V6)].map(|gateway| {
        let matches = [Expr::Family(Family::of(gateway)), Expr::DestinationIn(gateway.into())];
        rule([matches, dropped(CounterName::PodToGateway)].concat())
    });
    // What every link of IPv6 sends by itself, such as multicast listener reports, is no forgery. It goes no further than
    // this host: link-local sources are not forwarded.
    let of_the_link = [Expr::DestinationIn(network("ff00::/8")), Expr::SourceIn(network("fe80::/64"))]
        .map(|matches| rule(vec![Expr::Family(Family::V6), matches, Expr::Accept]));
    let forged = [vec![Expr::NotItsSource], dropped(CounterName::ForgedByPod).to_vec()].concat();
    gateways.into_iter().chain(of_the_link).chain([rule(forged)]).collect()
}

/// Matches what comes by a pod's link.
pub(super) fn out_of_a_pod() -> Expr {
    Expr::InInterfacePrefix(POD_LINK_PREFIX.to_owned())
}
