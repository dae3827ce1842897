//! The rules themselves, one function a chain.
//!
//! An accept of ours cannot undo another table's drop; these rules never try to.

use std::net::IpAddr;

use super::{BoundSet, Chain, ChainKind, CounterName, Expr, Hook, Rule, Ruleset, SetName};
use crate::{
    kernel::{GATEWAY_V4, GATEWAY_V6, POD_LINK_PREFIX},
    masquerade::Unmasqueraded,
    membership::Prefixes,
    settings::Settings,
    types::{Family, LinkName},
};

/// IPPROTO_TCP and IPPROTO_UDP.
const PORTED: [u8; 2] = [6, 17];
const UDP: u8 = 17;
/// Before connection tracking, after defragmentation (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// `NF_IP_PRI_FILTER`, a little earlier so that another table's accept does not matter and its drop is not hidden.
const FILTER: i32 = -10;
/// A little before `NF_IP_PRI_NAT_SRC`, so that a Service's own masquerade (kube-proxy) does not see what is ours.
const SOURCE_NAT: i32 = 90;
/// First source port of masqueraded flows.
const FIRST_PORT: u16 = 1024;

/// The chains for a node whose VXLAN device is `device`, and whose pods keep their addresses towards `unmasqueraded`;
/// `prefixes` are those of the members' pod CIDRs.
pub fn ruleset(settings: &Settings, device: LinkName, unmasqueraded: &Unmasqueraded, prefixes: &Prefixes) -> Ruleset {
    Ruleset {
        chains: vec![
            prerouting(settings),
            input(settings, prefixes),
            forward(settings, unmasqueraded),
            output(settings),
            postrouting(settings, device, unmasqueraded),
        ],
    }
}

/// Matches a packet of our tunnel, and nobody else's VXLAN on the same port.
fn tunnel(settings: &Settings) -> Rule {
    vec![Expr::Protocol(UDP), Expr::DestinationPort(settings.port), Expr::Vni(settings.vni.get())]
}

/// What comes out of a pod has the pod's own address, and goes anywhere but to the gateway itself, whose services are the
/// host's. rp_filter knows no IPv6, and an administrator may have loosened it.
fn pods() -> Vec<Rule> {
    let rule = |more: Vec<Expr>| [vec![Expr::InInterfacePrefix(POD_LINK_PREFIX.to_owned())], more].concat();
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

/// Pods are kept to their own addresses, and tunnel packets of members are not tracked.
fn prerouting(settings: &Settings) -> Chain {
    let outer = settings.outer;
    let mut rule = vec![Expr::Family(outer)];
    rule.extend(tunnel(settings));
    rule.push(Expr::Source { set: SetName::Peers(outer), negated: false });
    rule.push(Expr::Notrack);
    chain("prerouting", ChainKind::Filter, Hook::Prerouting, RAW, [pods(), vec![rule]].concat())
}

/// Our own tunnel packets are not tracked either.
fn output(settings: &Settings) -> Chain {
    let mut rule = tunnel(settings);
    rule.push(Expr::Notrack);
    chain("output", ChainKind::Filter, Hook::Output, RAW, vec![rule])
}

/// Tunnel packets that come out of a pod, whatever their source: the source of an IPv6 packet is checked by no
/// rp_filter, so a pod could take a member's underlay address.
fn from_pod(settings: &Settings) -> Rule {
    let mut rule = vec![Expr::InInterfacePrefix(POD_LINK_PREFIX.to_owned())];
    rule.extend(tunnel(settings));
    rule.extend([Expr::Counter(CounterName::TunnelFromPod), Expr::Drop]);
    rule
}

/// Tunnel packets that reach this host out of a pod, from an address no member has, or for pods that are not the sender's
/// are dropped, in either family: also those that a Service's translation sends here. Here packets are whole.
fn input(settings: &Settings, prefixes: &Prefixes) -> Chain {
    let mut rules = vec![from_pod(settings)];
    rules.extend(prefixes.iter().map(|(inner, prefix)| bound(settings, inner, prefix)));
    rules.extend(Family::ALL.map(|family| stranger(settings, family)));
    rules.push(forged(settings));
    chain("input", ChainKind::Filter, Hook::Input, FILTER, rules)
}

/// A member's pods come from that member's underlay address.
fn bound(settings: &Settings, inner: Family, prefix: u8) -> Rule {
    let outer = settings.outer;
    let mut rule = vec![Expr::Family(outer)];
    rule.extend(tunnel(settings));
    rule.extend([Expr::Inner(inner), Expr::Bound(BoundSet { outer, inner, prefix }), Expr::Accept]);
    rule
}

fn stranger(settings: &Settings, family: Family) -> Rule {
    let mut rule = vec![Expr::Family(family)];
    rule.extend(tunnel(settings));
    if family == settings.outer {
        rule.push(Expr::Source { set: SetName::Peers(family), negated: true });
    }
    rule.extend([Expr::Counter(CounterName::TunnelFromStranger), Expr::Drop]);
    rule
}

/// What is left is a member's, and claims to come from somebody else's pods or is no IP packet at all.
fn forged(settings: &Settings) -> Rule {
    let mut rule = tunnel(settings);
    rule.extend([Expr::Counter(CounterName::TunnelForged), Expr::Drop]);
    rule
}

/// Tunnel packets that a pod sends to another host are dropped after destination translation: what comes out of a pod
/// of this node, and what has a pod's source by whichever way it came.
fn forward(settings: &Settings, unmasqueraded: &Unmasqueraded) -> Chain {
    let by_source = Family::ALL.map(|family| {
        let mut rule = vec![Expr::Family(family)];
        rule.extend(tunnel(settings));
        rule.push(Expr::Source { set: SetName::Pools(family), negated: false });
        rule.extend([Expr::Counter(CounterName::TunnelFromPod), Expr::Drop]);
        rule
    });
    let mut rules = vec![from_pod(settings)];
    rules.extend(by_source);
    rules.extend(Family::ALL.into_iter().filter(|family| unmasqueraded.has(*family)).map(answers));
    chain("forward", ChainKind::Filter, Hook::Forward, FILTER, rules)
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
fn postrouting(settings: &Settings, device: LinkName, unmasqueraded: &Unmasqueraded) -> Chain {
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
            rules.extend(masquerade(&matches, settings.port));
        }
    }
    chain("postrouting", ChainKind::Nat, Hook::Postrouting, SOURCE_NAT, rules)
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

fn chain(name: &str, kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), kind, hook, priority, rules }
}
