//! The tunnel's own packets: whose are taken, and who may send them.
//!
//! Owns the guard of the tunnel: what pods, strangers and members forge is dropped and counted. How a packet of the tunnel is told
//! from others is the only part that knows its form.

use super::{Contribution, Place, pods::out_of_a_pod};
use crate::{
    encap::Encapsulation,
    membership::Prefixes,
    nft::{BoundSet, CounterName, Expr, Rule, SetName},
    settings::Settings,
    types::Family,
};

const UDP: u8 = 17;

/// Everything about the tunnel's packets.
pub(super) fn rules(settings: &Settings, prefixes: &Prefixes) -> Vec<Contribution> {
    vec![
        Contribution { place: Place::Prerouting, rules: vec![untracked_in(settings)] },
        Contribution { place: Place::Input, rules: input(settings, prefixes) },
        Contribution { place: Place::Forward, rules: forward(settings) },
        Contribution { place: Place::Output, rules: vec![untracked_out(settings)] },
    ]
}

/// Matches a packet of our tunnel, and nobody else's on the same port.
fn of_tunnel(settings: &Settings) -> Rule {
    match settings.encapsulation {
        Encapsulation::Vxlan { vni, port, .. } => {
            vec![Expr::Protocol(UDP), Expr::DestinationPort(port), Expr::Vni(vni.get())]
        }
    }
}

/// Tunnel packets of members are not tracked.
fn untracked_in(settings: &Settings) -> Rule {
    let outer = settings.outer();
    let mut rule = vec![Expr::Family(outer)];
    rule.extend(of_tunnel(settings));
    rule.push(Expr::Source { set: SetName::Peers(outer), negated: false });
    rule.push(Expr::Notrack);
    rule
}

/// Our own tunnel packets are not tracked either.
fn untracked_out(settings: &Settings) -> Rule {
    let mut rule = of_tunnel(settings);
    rule.push(Expr::Notrack);
    rule
}

/// Tunnel packets that come out of a pod, whatever their source: the source of an IPv6 packet is checked by no
/// rp_filter, so a pod could take a member's underlay address.
fn from_pod(settings: &Settings) -> Rule {
    let mut rule = vec![out_of_a_pod()];
    rule.extend(of_tunnel(settings));
    rule.extend([Expr::Counter(CounterName::TunnelFromPod), Expr::Drop]);
    rule
}

/// Tunnel packets that reach this host out of a pod, from an address no member has, or for pods that are not the sender's
/// are dropped, in either family: also those that a Service's translation sends here. Here packets are whole.
fn input(settings: &Settings, prefixes: &Prefixes) -> Vec<Rule> {
    let mut rules = vec![from_pod(settings)];
    rules.extend(prefixes.iter().map(|(inner, prefix)| bound(settings, inner, prefix)));
    rules.extend(Family::ALL.map(|family| stranger(settings, family)));
    rules.push(forged(settings));
    rules
}

/// A member's pods come from that member's underlay address.
fn bound(settings: &Settings, inner: Family, prefix: u8) -> Rule {
    let outer = settings.outer();
    let mut rule = vec![Expr::Family(outer)];
    rule.extend(of_tunnel(settings));
    rule.extend([Expr::Inner(inner), Expr::Bound(BoundSet { outer, inner, prefix }), Expr::Accept]);
    rule
}

fn stranger(settings: &Settings, family: Family) -> Rule {
    let mut rule = vec![Expr::Family(family)];
    rule.extend(of_tunnel(settings));
    if family == settings.outer() {
        rule.push(Expr::Source { set: SetName::Peers(family), negated: true });
    }
    rule.extend([Expr::Counter(CounterName::TunnelFromStranger), Expr::Drop]);
    rule
}

/// What is left is a member's, and claims to come from somebody else's pods or is no IP packet at all.
fn forged(settings: &Settings) -> Rule {
    let mut rule = of_tunnel(settings);
    rule.extend([Expr::Counter(CounterName::TunnelForged), Expr::Drop]);
    rule
}

/// Tunnel packets that a pod sends to another host are dropped after destination translation: what comes out of a pod
/// of this node, and what has a pod's source by whichever way it came.
fn forward(settings: &Settings) -> Vec<Rule> {
    let by_source = Family::ALL.map(|family| {
        let mut rule = vec![Expr::Family(family)];
        rule.extend(of_tunnel(settings));
        rule.push(Expr::Source { set: SetName::Pools(family), negated: false });
        rule.extend([Expr::Counter(CounterName::TunnelFromPod), Expr::Drop]);
        rule
    });
    [from_pod(settings)].into_iter().chain(by_source).collect()
}
