//! Under which address pods speak to what is no pod.
//!
//! Owns masquerading and its exceptions; who decides them is `crate::masquerade`. Must never touch packets between pods.

use super::{Contribution, Place};
use crate::{
    masquerade::Unmasqueraded,
    nft::{CounterName, Expr, Rule, SetName},
    settings::Settings,
    types::{Family, LinkName},
};

/// IPPROTO_TCP and IPPROTO_UDP.
const PORTED: [u8; 2] = [6, 17];
/// First source port of masqueraded flows.
const FIRST_PORT: u16 = 1024;

/// Masquerading, and the count of answers that come without it.
pub(super) fn rules(settings: &Settings, device: LinkName, unmasqueraded: &Unmasqueraded) -> Vec<Contribution> {
    let answers = Family::ALL.into_iter().filter(|family| unmasqueraded.has(*family)).map(answers).collect();
    vec![
        Contribution { place: Place::Forward, rules: answers },
        Contribution { place: Place::Postrouting, rules: postrouting(settings, device, unmasqueraded) },
    ]
}

/// Counts what comes to pods from where they go under their own addresses: it shows that there are routes to them.
fn answers(family: Family) -> Rule {
    vec![
        Expr::Family(family),
        Expr::Source { set: SetName::Unmasqueraded(family), negated: false },
        Expr::Destination { set: SetName::Pools(family), negated: false },
        Expr::Counter(CounterName::FromUnmasqueraded),
    ]
}

/// Lets pods keep their addresses. Never towards a node: it would answer through the tunnel, from an address of its own
/// that is no overlay address; and never into the tunnel, for the same reason.
fn unmasquerade(family: Family, device: LinkName) -> Rule {
    vec![
        Expr::Family(family),
        Expr::Source { set: SetName::Pools(family), negated: false },
        Expr::Destination { set: SetName::Unmasqueraded(family), negated: false },
        Expr::Destination { set: SetName::Pools(family), negated: true },
        Expr::Destination { set: SetName::Nodes(family), negated: true },
        Expr::NotOutInterface(device.to_string()),
        Expr::Counter(CounterName::Unmasqueraded),
        Expr::Accept,
    ]
}

/// Masquerades pods towards everything outside the pools, but for what is given, and whatever enters the tunnel without an
/// overlay address.
fn postrouting(settings: &Settings, device: LinkName, unmasqueraded: &Unmasqueraded) -> Vec<Rule> {
    let mut rules = Vec::new();
    for family in Family::ALL {
        rules.extend(unmasqueraded.has(family).then(|| unmasquerade(family, device)));
        let pools = SetName::Pools(family);
        let to_outside = vec![
            Expr::Family(family),
            Expr::Source { set: pools, negated: false },
            Expr::Destination { set: pools, negated: true },
        ];
        let into_tunnel = vec![
            Expr::Family(family),
            Expr::OutInterface(device.to_string()),
            Expr::Source { set: pools, negated: true },
        ];
        for matches in [to_outside, into_tunnel] {
            rules.extend(masquerade(&matches, settings.encapsulation.port()));
        }
    }
    rules
}

/// Fully random ports, never the tunnel's own: a reply to it would be taken for a tunnel packet. Protocols without
/// ports follow in a rule of their own.
fn masquerade(matches: &Rule, tunnel_port: u16) -> Vec<Rule> {
    let rule = |more: Vec<Expr>| [matches.clone(), more].concat();
    let ports = source_ports(tunnel_port);
    let mut rules: Vec<Rule> =
        PORTED.map(|protocol| rule(vec![Expr::Protocol(protocol), Expr::Masquerade { ports: Some(ports) }])).into();
    rules.push(rule(vec![Expr::Masquerade { ports: None }]));
    rules
}

/// The larger of the two port ranges beside the tunnel's port.
const fn source_ports(tunnel_port: u16) -> (u16, u16) {
    if tunnel_port <= FIRST_PORT {
        (FIRST_PORT + 1, u16::MAX)
    } else if u16::MAX - tunnel_port >= tunnel_port - FIRST_PORT {
        (tunnel_port + 1, u16::MAX)
    } else {
        (FIRST_PORT, tunnel_port - 1)
    }
}
