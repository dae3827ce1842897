//! Rules in the words of nft(8), for people.
//!
//! Owns the wording and the kernel's module of each expression. Must never be read back: what the kernel holds is compared as
//! values.

use std::fmt;

use super::{BoundSet, Expr, SetName};
use crate::types::Family;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |family| if family == Family::V4 { "ip" } else { "ip6" };
        let not = |negated: bool| if negated { "!= " } else { "" };
        let of = |network: &ipnetwork::IpNetwork| if network.is_ipv4() { "ip" } else { "ip6" };
        let set = |set: &SetName| ip(set.family());
        match self {
            Self::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Self::Protocol(6) => f.write_str("meta l4proto tcp"),
            Self::Protocol(17) => f.write_str("meta l4proto udp"),
            Self::Protocol(number) => write!(f, "meta l4proto {number}"),
            Self::DestinationPort(port) => write!(f, "udp dport {port}"),
            Self::Vni(vni) => write!(f, "@th,96,24 {vni}"),
            Self::Inner(Family::V4) => f.write_str("@th,224,16 0x0800"),
            Self::Inner(Family::V6) => f.write_str("@th,224,16 0x86dd"),
            Self::Bound(set) => write!(f, "{} saddr . {} @{set}", ip(set.outer), inner_source(*set)),
            Self::InInterfacePrefix(prefix) => write!(f, "iifname \"{prefix}*\""),
            Self::OutInterface(name) => write!(f, "oifname \"{name}\""),
            Self::NotOutInterface(name) => write!(f, "oifname != \"{name}\""),
            Self::Source { set: name, negated } => write!(f, "{} saddr {}@{name}", set(name), not(*negated)),
            Self::Destination { set: name, negated } => write!(f, "{} daddr {}@{name}", set(name), not(*negated)),
            Self::SourceIn(network) => write!(f, "{} saddr {network}", of(network)),
            Self::DestinationIn(network) => write!(f, "{} daddr {network}", of(network)),
            Self::NotItsSource => f.write_str("fib saddr . iif oif missing"),
            Self::Counter(name) => write!(f, "counter name {}", name.as_str()),
            Self::Notrack => f.write_str("notrack"),
            Self::Drop => f.write_str("drop"),
            Self::Accept => f.write_str("accept"),
            Self::Masquerade { ports: None } => f.write_str("masquerade fully-random"),
            Self::Masquerade { ports: Some((first, last)) } => write!(f, "masquerade to :{first}-{last} fully-random"),
            Self::Foreign(what) => f.write_str(what),
        }
    }
}

/// Where the source of the packet in a VXLAN packet is, and what of it counts.
fn inner_source(set: BoundSet) -> String {
    match set.inner {
        Family::V4 => format!("@th,336,32 & {:#010x}", u32::MAX.checked_shl(32 - u32::from(set.prefix)).unwrap_or(0)),
        Family::V6 => {
            format!("@th,304,128 & {:#034x}", u128::MAX.checked_shl(128 - u32::from(set.prefix)).unwrap_or(0))
        }
    }
}

/// A whole rule as `nft list ruleset` would show it.
pub fn words(rule: &[Expr]) -> String {
    rule.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The kernel's module for an expression with its option; none where nf_tables itself has it.
pub const fn module(expr: &Expr) -> Option<(&'static str, &'static str)> {
    match expr {
        Expr::Counter(_) => Some(("nft_objref", "CONFIG_NFT_OBJREF")),
        Expr::NotItsSource => Some(("nft_fib_inet", "CONFIG_NFT_FIB_INET")),
        Expr::Notrack => Some(("nft_ct", "CONFIG_NFT_CT")),
        Expr::Masquerade { .. } => Some(("nft_masq", "CONFIG_NFT_MASQ")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        masquerade::Unmasqueraded,
        nft::{CounterName, ruleset},
        settings::{Mode, Settings},
        types::Vni,
    };

    #[test]
    fn a_rule_reads_as_nft_prints_it() {
        let rule = [
            Expr::InInterfacePrefix("wpod".to_owned()),
            Expr::Protocol(17),
            Expr::DestinationPort(4789),
            Expr::Vni(87),
            Expr::Counter(CounterName::TunnelFromPod),
            Expr::Drop,
        ];
        assert_eq!(
            words(&rule),
            "iifname \"wpod*\" meta l4proto udp udp dport 4789 @th,96,24 87 counter name tunnel_from_pod drop"
        );
    }

    #[test]
    fn a_pair_reads_as_nft_takes_it() {
        let rule =
            |inner, prefix| words(&[Expr::Inner(inner), Expr::Bound(BoundSet { outer: Family::V4, inner, prefix })]);
        assert_eq!(rule(Family::V4, 20), "@th,224,16 0x0800 ip saddr . @th,336,32 & 0xfffff000 @bound4_4_20");
        let mask = "0xffffffffffffffff0000000000000000";
        assert_eq!(rule(Family::V6, 64), format!("@th,224,16 0x86dd ip saddr . @th,304,128 & {mask} @bound4_6_64"));
    }

    #[test]
    fn no_rule_of_ours_is_told_in_the_words_of_the_program() {
        for outer in Family::ALL {
            let vni = Vni::new(87).expect("in range");
            let settings = Settings {
                pools: Vec::new(),
                mode: Mode::Always,
                encapsulation: crate::encap::Encapsulation::Vxlan { vni, port: 4789, outer },
                more: Default::default(),
            };
            let prefixes = [(Family::V4, 24), (Family::V6, 64)].into_iter().collect();
            let device = "weft0".parse().expect("a name");
            for chain in ruleset(&settings, device, &Unmasqueraded::everything(), &prefixes).chains {
                for rule in chain.rules {
                    let words = words(&rule);
                    assert!(!words.contains(['{', '(', '[']), "{words}");
                }
            }
        }
    }
}
