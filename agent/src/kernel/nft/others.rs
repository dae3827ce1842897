//! Other tables' chains, as packets of ours meet them.
//!
//! An accept of ours cannot undo a drop of theirs, so the operator has to know of them. Owns walking through their chains with
//! a packet, jumps included. Reads only, and asks for no more than the packet meets: others' tables can be large. Must never
//! call a packet lost that a rule may accept which cannot be judged from outside.

mod packet;
mod rule;
mod sets;
mod walk;
mod xtables;

use weft_core::nft::TABLE;

pub use self::packet::{Packet, Path};
use self::{packet::Hook, walk::Walk};
use super::{
    socket::{Fault, Netfilter},
    table::{GET_CHAIN, GET_TABLE},
    wire::{Attributes, INET, UNSPEC},
};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `NF_DROP`.
const DROP: u32 = 0;
/// `NFT_TABLE_F_DORMANT`.
const DORMANT: u32 = 1;

/// A chain that packets come into from outside nftables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropper {
    /// Family of its table as nft(8) writes it: `ip`, `ip6` or `inet`.
    pub table_family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// The chain with the rule that drops, where it is another one; none for the policy.
    pub by: Option<String>,
    /// True where a chain of the same table has a name as ufw gives them.
    pub of_ufw: bool,
}

/// A base chain of somebody else's.
struct Base {
    family: u8,
    table: String,
    chain: String,
    hook: Hook,
    drops_by_policy: bool,
}

/// The chains that drop `packet`, each on its own; in no order.
pub(super) fn droppers(socket: &mut Netfilter, packet: &Packet) -> Result<Vec<Dropper>, Fault> {
    let chains = Chains::read(socket)?;
    let mut found = Vec::new();
    for base in chains.base.iter().filter(|base| packet.passes(base.hook) && concerns(base.family, packet)) {
        let mut walk = Walk::new(socket, base.family, &base.table, packet.at(base.hook));
        let Some(by) = walk.begin(&base.chain, base.drops_by_policy)? else { continue };
        found.push(Dropper {
            table_family: family_name(base.family),
            table: base.table.clone(),
            chain: base.chain.clone(),
            by,
            of_ufw: chains.of_ufw.contains(&(base.family, base.table.clone())),
        });
    }
    Ok(found)
}

/// What others' tables are made of, as far as all packets meet it.
#[derive(Default)]
struct Chains {
    base: Vec<Base>,
    of_ufw: Vec<(u8, String)>,
}

impl Chains {
    fn read(socket: &mut Netfilter) -> Result<Self, Fault> {
        let mut asleep = Vec::new();
        for reply in socket.dump(GET_TABLE, UNSPEC, Attributes::new())? {
            let table = reply.attributes()?;
            if table.number(2).unwrap_or_default() & DORMANT != 0 {
                asleep.push((reply.family, table.text(1)));
            }
        }
        let mut found = Self::default();
        for reply in socket.dump(GET_CHAIN, UNSPEC, Attributes::new())? {
            let chain = reply.attributes()?;
            let (Some(table), Some(name)) = (chain.text(1), chain.text(3)) else { continue };
            let family = reply.family;
            let is_ours = family == INET && table == TABLE;
            if is_ours || family_name(family).is_empty() || asleep.contains(&(family, Some(table.clone()))) {
                continue;
            }
            if name.starts_with("ufw-") {
                found.of_ufw.push((family, table.clone()));
            }
            // Chains of type nat see the first packet of a connection, and decide where it goes, not whether.
            let is_filter = chain.text(7).is_some_and(|kind| kind != "nat");
            let hook = chain.nest(4)?.number(1).and_then(Hook::new);
            let drops_by_policy = chain.number(5) == Some(DROP);
            let base = hook.filter(|_| is_filter);
            found.base.extend(base.map(|hook| Base { family, table, chain: name, hook, drops_by_policy }));
        }
        Ok(found)
    }
}

const fn family_name(family: u8) -> &'static str {
    match family {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => "",
    }
}

fn concerns(family: u8, packet: &Packet) -> bool {
    match family {
        IPV4 => packet.source.is_ipv4(),
        IPV6 => packet.source.is_ipv6(),
        _ => true,
    }
}
