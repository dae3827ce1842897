//! Policy routing that takes pods' packets before table main.
//!
//! VPNs add rules that send everything into a table of their own. The kernel itself is asked which way a pod's packet takes,
//! with the pod's source and link, for peers and pools. Must never judge table main: what is wrong there is found otherwise.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_ACK;
use rustix::io::Errno;
use weft_core::{kernel::PROTOCOL, settings::Settings, types::Family};

use super::{
    Finding, Input, error,
    features::{Raw, attribute},
    host::{Host, MAIN_TABLE},
    link_index, unread,
};
use crate::kernel::{
    KernelError,
    rtnl::{
        connection::{Batch, Connection, Part},
        wire::{attributes, ip, number, text, u32_at},
    },
};

/// `RTM_GETROUTE` and `RTM_GETRULE`, and the length of `struct rtmsg` and `struct fib_rule_hdr`.
const GET_ROUTE: u16 = 26;
const GET_RULE: u16 = 34;
const HEADER: usize = 12;
/// `RTM_F_LOOKUP_TABLE` and `RTM_F_FIB_MATCH`.
const TELL_TABLE: u32 = 0x1000;
const TELL_ENTRY: u32 = 0x2000;
/// `FR_ACT_BLACKHOLE` to `FR_ACT_PROHIBIT`.
const REFUSING: std::ops::RangeInclusive<u8> = 6..=8;

/// Which way a packet takes.
struct Way {
    to: IpAddr,
    table: u32,
    protocol: u8,
    link: Option<u32>,
    /// A rule says that there is none.
    refused: bool,
}

/// A rule of policy routing, as `ip rule` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    priority: u32,
    table: u32,
    action: u8,
    /// It is for packets with a mark, which pods' have not.
    of_marked: bool,
    text: String,
}

pub(super) async fn check(route: &mut Connection, settings: &Settings, input: &Input, host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for family in Family::ALL.into_iter().filter(|family| input.may_carry(*family)) {
        match of_family(route, family, settings, input, host).await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(unread("policy routing", &error)),
        }
    }
    findings
}

async fn of_family(
    route: &mut Connection,
    family: Family,
    settings: &Settings,
    input: &Input,
    host: &Host,
) -> Result<Option<Finding>, KernelError> {
    let rules = rules(route, family).await?;
    // The three that every host has lead where everything is as it should be.
    if rules.iter().all(|rule| matches!(rule.table, 253..=255)) {
        return Ok(None);
    }
    let pools = settings.pools.iter().filter(|pool| pool.family() == family);
    let peers = input.peers.iter().copied().filter(|peer| Family::of(*peer) == family);
    let mut seen = Vec::new();
    for to in peers.chain(pools.clone().map(|pool| pool.vtep())) {
        seen.extend(way(route, to, input).await?);
    }
    let Some(wrong) = seen.into_iter().find(|way| way.refused || is_elsewhere(way)) else { return Ok(None) };
    let leads_there = |rule: &&Rule| {
        let leads = if wrong.refused { refuses(rule) } else { rule.table == wrong.table };
        leads && !rule.of_marked
    };
    let Some(rule) = rules.iter().find(leads_there) else { return Ok(None) };
    let pool = pools.clone().find(|pool| pool.contains(wrong.to)).map(ToString::to_string).unwrap_or_default();
    Ok(Some(told(&wrong, rule, &pool, host)))
}

const fn is_elsewhere(way: &Way) -> bool {
    way.table != MAIN_TABLE && way.protocol != PROTOCOL && way.table != 255
}

fn refuses(rule: &Rule) -> bool {
    REFUSING.contains(&rule.action)
}

fn told(way: &Way, rule: &Rule, pool: &str, host: &Host) -> Finding {
    let Way { to, table, link, .. } = way;
    let Rule { priority, text, .. } = rule;
    let where_to = match link {
        Some(link) => format!("leave by {} through table {table}", host.name(*link)),
        None => "go nowhere".to_owned(),
    };
    let family = if to.is_ipv6() { " -6" } else { "" };
    let remedy = match priority.checked_sub(1).filter(|before| *before > 0) {
        Some(before) => format!("put a rule before it (ip{family} rule add to {pool} lookup main priority {before})"),
        None => "remove that rule, or give it a later priority".to_owned(),
    };
    error(
        "PolicyRouting",
        format!(
            "packets of pods to {to} {where_to} and not by Weft's route in table main, because of rule {priority}: {text}; \
             pods there are cut off: {remedy}, wherever the program that made the rule lets you say so"
        ),
    )
}

/// Asks with the source and the link of a pod; without pods with the node's own overlay address. None where the kernel knows no
/// way for reasons of its own.
async fn way(route: &mut Connection, to: IpAddr, input: &Input) -> Result<Option<Way>, KernelError> {
    let family = Family::of(to);
    let pod = input.pods.iter().find(|(_, address)| Family::of(*address) == family);
    let source = pod.map(|(_, address)| *address).or_else(|| *input.vteps.get(family));
    let link = pod.and_then(|(link, _)| link_index(link.as_str()));
    let mut batch = Batch::default();
    batch.push(NLM_F_ACK, &Raw { kind: GET_ROUTE, payload: lookup(to, source, link) });
    let mut way = None;
    let outcomes =
        route.exchange(&mut batch, "the way of a pod's packet", |_, payload| way = read_way(to, payload)).await?;
    let refused = outcomes.into_iter().flatten().next();
    let by_rule = [Errno::ACCESS, Errno::NETUNREACH, Errno::INVAL].map(Errno::raw_os_error);
    Ok(match refused {
        Some(refusal) if by_rule.contains(&refusal.errno) => {
            Some(Way { to, table: 0, protocol: 0, link: None, refused: true })
        }
        Some(_) => None,
        None => way,
    })
}

fn lookup(to: IpAddr, source: Option<IpAddr>, link: Option<u32>) -> Vec<u8> {
    let bits = Family::of(to).bits();
    let (kind, flags) = if to.is_ipv4() { (2, TELL_TABLE | TELL_ENTRY) } else { (10, TELL_ENTRY) };
    let mut payload = vec![kind, bits, if source.is_some() { bits } else { 0 }, 0, 0, 0, 0, 0];
    payload.extend(flags.to_ne_bytes());
    payload.extend(attribute(1, &octets(to)));
    payload.extend(source.map(|source| attribute(2, &octets(source))).unwrap_or_default());
    payload.extend(link.map(|link| attribute(3, &link.to_ne_bytes())).unwrap_or_default());
    payload
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn read_way(to: IpAddr, payload: &[u8]) -> Option<Way> {
    let (table, protocol) = (*payload.get(4)?, *payload.get(5)?);
    let mut way = Way { to, table: table.into(), protocol, link: None, refused: false };
    for (kind, value) in attributes(payload, HEADER) {
        match kind {
            4 => way.link = number(value),
            15 => way.table = number(value)?,
            _ => {}
        }
    }
    Some(way)
}

/// All rules of a family, the first to be heeded first.
async fn rules(route: &mut Connection, family: Family) -> Result<Vec<Rule>, KernelError> {
    let mut payload = vec![0; HEADER];
    payload[0] = if family == Family::V4 { 2 } else { 10 };
    let mut found = Vec::new();
    let sink = |part: Part<'_>| match part {
        Part::Object(payload) => found.extend(read_rule(payload)),
        Part::Again => found.clear(),
    };
    match route.dump(&Raw { kind: GET_RULE, payload }, "rules of policy routing", sink).await {
        // A kernel without policy routing has no rules.
        Err(KernelError::Refused { errno, .. }) if errno == Errno::OPNOTSUPP.raw_os_error() => return Ok(Vec::new()),
        other => other?,
    }
    found.sort_by_key(|rule: &Rule| rule.priority);
    Ok(found)
}

/// `struct fib_rule_hdr` and `FRA_…`.
fn read_rule(payload: &[u8]) -> Option<Rule> {
    let (mut table, action) = (u32::from(*payload.get(4)?), *payload.get(7)?);
    let (mut priority, mut from, mut more) = (0, "all".to_owned(), String::new());
    let [to_length, from_length] = [*payload.get(1)?, *payload.get(2)?];
    for (kind, value) in attributes(payload, HEADER) {
        match kind {
            1 => more += &format!(" to {}/{to_length}", ip(value)?),
            2 => from = format!("{}/{from_length}", ip(value)?),
            3 => more += &format!(" iif {}", text(value)?),
            6 => priority = number(value)?,
            10 => more += &format!(" fwmark {:#x}", number(value)?),
            15 => table = number(value)?,
            17 => more += &format!(" oif {}", text(value)?),
            _ => {}
        }
    }
    // FIB_RULE_INVERT.
    let is_inverted = u32_at(payload, 8)? & 2 != 0;
    let not = if is_inverted { "not " } else { "" };
    let of_marked = more.contains(" fwmark") && !is_inverted;
    let does = match action {
        6 => "blackhole".to_owned(),
        7 => "unreachable".to_owned(),
        8 => "prohibit".to_owned(),
        _ => format!("lookup {table}"),
    };
    Some(Rule { priority, table, action, of_marked, text: format!("{not}from {from}{more} {does}") })
}
