//! Other tables' chains that drop forwarded packets.
//!
//! An accept of ours cannot undo a drop of theirs, so the operator has to know of them. Reads only, and never judges
//! more than is plain: a chain's policy, and a last rule that takes every packet.

use weft_core::{nft::TABLE, types::Family};

use super::{
    socket::{Fault, Netfilter},
    step::Step,
    table::{GET_CHAIN, GET_RULE, GET_TABLE},
    wire::{Attributes, INET, Malformed, Parsed, UNSPEC},
};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `NF_INET_FORWARD`.
const FORWARD: u32 = 2;
/// `NF_DROP`.
const DROP: u32 = 0;
/// `NFT_TABLE_F_DORMANT`.
const DORMANT: u32 = 1;

/// A chain that drops whatever its rules do not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropper {
    /// Family of its table as nft(8) writes it: `ip`, `ip6` or `inet`.
    pub table_family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// True for policy drop, false for a last rule that drops or rejects everything.
    pub by_policy: bool,
}

impl Dropper {
    /// True where packets of `family` pass the chain.
    pub fn concerns(&self, family: Family) -> bool {
        match self.table_family {
            "ip" => family == Family::V4,
            "ip6" => family == Family::V6,
            _ => true,
        }
    }
}

/// All of them, in no order.
pub(super) fn droppers(socket: &mut Netfilter) -> Result<Vec<Dropper>, Fault> {
    let mut asleep = Vec::new();
    for reply in socket.dump(GET_TABLE, UNSPEC, Attributes::new())? {
        let table = reply.attributes()?;
        if table.number(2).unwrap_or_default() & DORMANT != 0 {
            asleep.push((reply.family, table.text(1)));
        }
    }
    let mut found = Vec::new();
    for reply in socket.dump(GET_CHAIN, UNSPEC, Attributes::new())? {
        let chain = reply.attributes()?;
        let Some(table_family) = family_name(reply.family) else { continue };
        let (Some(table), Some(name)) = (chain.text(1), chain.text(3)) else { continue };
        let ours = reply.family == INET && table == TABLE;
        if ours || chain.nest(4)?.number(1) != Some(FORWARD) || asleep.contains(&(reply.family, Some(table.clone()))) {
            continue;
        }
        let by_policy = chain.number(5) == Some(DROP);
        if by_policy || ends_in_drop(socket, reply.family, &table, &name)? {
            found.push(Dropper { table_family, table, chain: name, by_policy });
        }
    }
    Ok(found)
}

const fn family_name(family: u8) -> Option<&'static str> {
    match family {
        INET => Some("inet"),
        IPV4 => Some("ip"),
        IPV6 => Some("ip6"),
        _ => None,
    }
}

fn ends_in_drop(socket: &mut Netfilter, family: u8, table: &str, chain: &str) -> Result<bool, Fault> {
    let request = Attributes::new().text(1, table).text(2, chain);
    let mut drops = false;
    for reply in socket.dump(GET_RULE, family, request)? {
        let rule = reply.attributes()?;
        if rule.text(1).as_deref() == Some(table) && rule.text(2).as_deref() == Some(chain) {
            drops = drops_all(&rule.nest(4)?)?;
        }
    }
    Ok(drops)
}

/// True for a rule that matches nothing in particular and drops or rejects.
fn drops_all(expressions: &Parsed<'_>) -> Result<bool, Malformed> {
    let mut drops = false;
    for (_, bytes) in expressions.iter() {
        let expression = Parsed::new(bytes)?;
        match expression.text(1).as_deref() {
            Some("counter" | "log") => {}
            Some("reject") => drops = true,
            // A target of iptables, where it runs on nf_tables.
            Some("target") => drops = matches!(expression.nest(2)?.text(1).as_deref(), Some("REJECT" | "DROP")),
            _ if Step::decode(bytes)? == Step::Verdict(DROP) => drops = true,
            _ => return Ok(false),
        }
    }
    Ok(drops)
}
