//! Rules in Weft's vocabulary, to and from nf_tables expressions.
//!
//! Reading is the inverse of writing: steps that no expression of ours is written as become [`Expr::Foreign`], so that
//! a rule which a foreign hand touched never equals the one we wrote.

mod bound;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use weft_core::{
    nft::{CounterName, Expr, Rule, SetName},
    types::Family,
};

use super::{
    step::{FIRST, SECOND, Step},
    wire::{Attributes, Malformed, Parsed},
};

/// `NFT_META_…`.
const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
/// `NFT_PAYLOAD_NETWORK_HEADER` and `NFT_PAYLOAD_TRANSPORT_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `IFNAMSIZ`.
const NAME_SIZE: usize = 16;
/// `NF_DROP` and `NF_ACCEPT`.
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED` and `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const PORTS_GIVEN: u32 = 1 << 1;
const FULLY_RANDOM: u32 = 1 << 4;
/// `NFTA_LIST_ELEM`.
const ELEMENT: u16 = 1;

/// A rule as the content of `NFTA_RULE_EXPRESSIONS`.
pub(super) fn encode_rule(rule: &Rule) -> Attributes {
    let mut list = Attributes::new();
    for step in rule.iter().flat_map(steps) {
        list.push_nest(ELEMENT, &step.encode());
    }
    list
}

/// Reads the content of `NFTA_RULE_EXPRESSIONS`.
pub(super) fn decode_rule(list: &Parsed<'_>) -> Result<Rule, Malformed> {
    let steps: Vec<Step> = list.iter().map(|(_, bytes)| Step::decode(bytes)).collect::<Result<_, _>>()?;
    let mut rest = steps.as_slice();
    let mut rule = Rule::new();
    while let Some((first, behind)) = rest.split_first() {
        let (expr, left) = read(rest).unwrap_or_else(|| (foreign(first), behind));
        rule.push(expr);
        rest = left;
    }
    Ok(rule)
}

fn steps(expr: &Expr) -> Vec<Step> {
    match expr {
        Expr::Family(family) => vec![Step::Meta(META_FAMILY), Step::Equal(vec![protocol_family(*family)])],
        Expr::Protocol(number) => vec![Step::Meta(META_PROTOCOL), Step::Equal(vec![*number])],
        Expr::DestinationPort(port) => vec![transport(2, 2), Step::Equal(port.to_be_bytes().into())],
        Expr::Vni(vni) => vec![transport(12, 3), Step::Equal(vni.to_be_bytes()[1..].into())],
        Expr::Inner(family) => bound::ethertype(*family),
        Expr::Bound(set) => bound::steps(*set),
        Expr::InInterfacePrefix(prefix) => vec![Step::Meta(META_IN_NAME), Step::Equal(prefix.clone().into_bytes())],
        Expr::OutInterface(name) => vec![Step::Meta(META_OUT_NAME), Step::Equal(padded(name))],
        Expr::NotOutInterface(name) => vec![Step::Meta(META_OUT_NAME), Step::Differs(padded(name))],
        Expr::Source { set, negated } => address(source_offset(set.family()), *set, *negated),
        Expr::Destination { set, negated } => address(destination_offset(set.family()), *set, *negated),
        Expr::SourceIn(network) => prefix(source_offset(Family::of(network.ip())), network),
        Expr::DestinationIn(network) => prefix(destination_offset(Family::of(network.ip())), network),
        Expr::NotItsSource => vec![Step::ReversePath, Step::Equal(vec![0])],
        Expr::Counter(name) => vec![Step::Counter(name.as_str().to_owned())],
        Expr::Notrack => vec![Step::Notrack],
        Expr::Drop => vec![Step::Verdict(DROP)],
        Expr::Accept => vec![Step::Verdict(ACCEPT)],
        Expr::Masquerade { ports: None } => vec![Step::Masquerade { flags: FULLY_RANDOM, ports: false }],
        Expr::Masquerade { ports: Some((first, last)) } => vec![
            Step::Value(FIRST, first.to_be_bytes().into()),
            Step::Value(SECOND, last.to_be_bytes().into()),
            Step::Masquerade { flags: FULLY_RANDOM | PORTS_GIVEN, ports: true },
        ],
        Expr::Foreign(what) => vec![Step::Foreign(what.clone())],
    }
}

/// Reads one expression off the front.
fn read(steps: &[Step]) -> Option<(Expr, &[Step])> {
    let (expr, length) = match steps {
        [Step::Meta(key), Step::Equal(value), ..] => (read_meta(*key, value)?, 2),
        [Step::Meta(META_OUT_NAME), Step::Differs(value), ..] => (Expr::NotOutInterface(whole_name(value)?), 2),
        [Step::Payload { register: FIRST, base: TRANSPORT, offset: 2, length: 2 }, Step::Equal(value), ..] => {
            (Expr::DestinationPort(port(value)?), 2)
        }
        [Step::Payload { register: FIRST, base: TRANSPORT, offset: 12, length: 3 }, Step::Equal(value), ..] => {
            let [high, middle, low] = *<&[u8; 3]>::try_from(value.as_slice()).ok()?;
            (Expr::Vni(u32::from_be_bytes([0, high, middle, low])), 2)
        }
        [Step::Payload { register: FIRST, base: TRANSPORT, .. }, Step::Equal(_), ..] => {
            (bound::read_ethertype(steps)?, 2)
        }
        [Step::Payload { .. }, Step::Payload { .. }, Step::Mask { .. }, Step::Lookup { set, .. }, ..] => {
            (Expr::Bound(bound::read(steps, set)?), 4)
        }
        [Step::Payload { register: FIRST, base: NETWORK, offset, length }, Step::Lookup { set, negated }, ..] => {
            (read_address(*offset, *length, set, *negated)?, 2)
        }
        [Step::Payload { register: FIRST, base: NETWORK, offset, length }, Step::Equal(value), ..]
            if value.len() == *length as usize =>
        {
            (read_prefix(*offset, value)?, 2)
        }
        [Step::ReversePath, Step::Equal(value), ..] if value == &[0] => (Expr::NotItsSource, 2),
        [Step::Counter(name), ..] => {
            (Expr::Counter(CounterName::ALL.into_iter().find(|counter| counter.as_str() == name)?), 1)
        }
        [Step::Notrack, ..] => (Expr::Notrack, 1),
        [Step::Verdict(DROP), ..] => (Expr::Drop, 1),
        [Step::Verdict(ACCEPT), ..] => (Expr::Accept, 1),
        [Step::Masquerade { flags: FULLY_RANDOM, ports: false }, ..] => (Expr::Masquerade { ports: None }, 1),
        [Step::Value(FIRST, first), Step::Value(SECOND, last), Step::Masquerade { flags, ports: true }, ..]
            if *flags == FULLY_RANDOM | PORTS_GIVEN =>
        {
            (Expr::Masquerade { ports: Some((port(first)?, port(last)?)) }, 3)
        }
        _ => return None,
    };
    Some((expr, &steps[length..]))
}

fn read_meta(key: u32, value: &[u8]) -> Option<Expr> {
    match (key, value) {
        (META_FAMILY, [IPV4]) => Some(Expr::Family(Family::V4)),
        (META_FAMILY, [IPV6]) => Some(Expr::Family(Family::V6)),
        (META_PROTOCOL, [number]) => Some(Expr::Protocol(*number)),
        // A whole name is compared with its zeros, a prefix is shorter and has none.
        (META_IN_NAME, prefix) if prefix.len() < NAME_SIZE => name(prefix).map(Expr::InInterfacePrefix),
        (META_OUT_NAME, padded) => whole_name(padded).map(Expr::OutInterface),
        _ => None,
    }
}

/// A whole interface name is compared with its zeros.
fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_SIZE, 0);
    bytes
}

fn whole_name(padded: &[u8]) -> Option<String> {
    let end = padded.iter().position(|byte| *byte == 0).filter(|_| padded.len() == NAME_SIZE)?;
    let rest_is_zero = padded[end..].iter().all(|byte| *byte == 0);
    name(&padded[..end]).filter(|_| rest_is_zero)
}

fn name(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok().filter(|text| !text.contains('\0'))
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

fn read_address(offset: u32, length: u32, set: &str, negated: bool) -> Option<Expr> {
    let set = SetName::find(set).filter(|set| !matches!(set, SetName::Bound(_)))?;
    let family = set.family();
    if length != u32::from(family.bits() / 8) {
        return None;
    }
    match offset {
        at if at == source_offset(family) => Some(Expr::Source { set, negated }),
        at if at == destination_offset(family) => Some(Expr::Destination { set, negated }),
        _ => None,
    }
}

fn transport(offset: u32, length: u32) -> Step {
    Step::Payload { register: FIRST, base: TRANSPORT, offset, length }
}

fn address(offset: u32, set: SetName, negated: bool) -> Vec<Step> {
    let length = u32::from(set.family().bits() / 8);
    let payload = Step::Payload { register: FIRST, base: NETWORK, offset, length };
    vec![payload, Step::Lookup { set: set.to_string(), negated }]
}

/// Compares the first bytes of an address.
fn prefix(offset: u32, network: &IpNetwork) -> Vec<Step> {
    let octets = match network.network() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = usize::from(network.prefix() / 8);
    let payload = Step::Payload { register: FIRST, base: NETWORK, offset, length: u32::from(network.prefix() / 8) };
    vec![payload, Step::Equal(octets[..length].into())]
}

fn read_prefix(offset: u32, value: &[u8]) -> Option<Expr> {
    let family = Family::ALL
        .into_iter()
        .find(|family| [source_offset(*family), destination_offset(*family)].contains(&offset))?;
    let address: IpAddr = match family {
        Family::V4 => filled::<4>(value)?.into(),
        Family::V6 => filled::<16>(value)?.into(),
    };
    let network = IpNetwork::new(address, u8::try_from(value.len() * 8).ok()?).ok()?;
    Some(if offset == source_offset(family) { Expr::SourceIn(network) } else { Expr::DestinationIn(network) })
}

/// The value, and zeros up to `N` bytes.
fn filled<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    let mut octets = [0; N];
    octets.get_mut(..value.len())?.copy_from_slice(value);
    Some(octets)
}

/// Where the source address is in the IP header (RFC 791, section 3.1; RFC 8200, section 3).
const fn source_offset(family: Family) -> u32 {
    match family {
        Family::V4 => 12,
        Family::V6 => 8,
    }
}

/// Where the destination address is.
const fn destination_offset(family: Family) -> u32 {
    match family {
        Family::V4 => 16,
        Family::V6 => 24,
    }
}

const fn protocol_family(family: Family) -> u8 {
    match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    }
}

/// What stands where no rule of ours has it, by the name of its expression.
fn foreign(step: &Step) -> Expr {
    Expr::Foreign(step.name().to_owned())
}

#[cfg(test)]
mod tests {
    use weft_core::{
        encap::Encapsulation,
        masquerade::Unmasqueraded,
        nft::ruleset,
        settings::{Mode, Settings},
        types::Vni,
    };

    use super::*;

    fn read_back(rule: &Rule) -> Rule {
        let written = encode_rule(rule);
        decode_rule(&Parsed::new(written.as_bytes()).expect("well-formed")).expect("well-formed")
    }

    #[test]
    fn every_rule_of_ours_reads_back_as_itself() {
        for outer in Family::ALL {
            let pools = vec!["10.244.0.0/16".parse().expect("a CIDR")];
            let vni = Vni::new(0x0012_3456).expect("24 bits");
            let settings = Settings {
                pools,
                mode: Mode::CrossSubnet,
                encapsulation: Encapsulation::Vxlan { vni, port: 4789, outer },
                more: Default::default(),
            };
            let prefixes = [(Family::V4, 23), (Family::V4, 24), (Family::V6, 64)].into_iter().collect();
            let device = "weft0".parse().expect("a name");
            for chain in ruleset(&settings, device, &Unmasqueraded::everything(), &prefixes).chains {
                for rule in chain.rules {
                    assert_eq!(read_back(&rule), rule, "in chain {}", chain.name);
                }
            }
        }
    }

    #[test]
    fn steps_out_of_place_are_foreign() {
        let compare_nothing = Step::Equal(vec![1]);
        let mut list = Attributes::new();
        list.push_nest(ELEMENT, &compare_nothing.encode());
        let rule = decode_rule(&Parsed::new(list.as_bytes()).expect("well-formed")).expect("well-formed");
        assert!(matches!(rule.as_slice(), [Expr::Foreign(_)]), "{rule:?}");
    }
}
