//! Asks the kernel whether it could take our table, without changing anything.
//!
//! A transaction with all we need ends in a message that must fail: the kernel checks each message, says which it
//! refuses, and then undoes all of them. Must never be a transaction that can succeed.

use std::sync::Arc;

use rustix::io::Errno;
use weft_core::{
    diff::Op,
    kernel::{Key, Value},
    masquerade::Unmasqueraded,
    nft::{Rule, Ruleset, ruleset},
    settings::{Mode, Settings},
    types::{Family, LinkName, Vni},
};

use super::{
    plan::{self, Wanted},
    socket::{Fault, Netfilter},
    table::{GET_TABLE, Table, named},
    wire::{INET, Message},
};

/// What the kernel refuses, and why.
#[derive(Debug)]
pub(super) struct Missing {
    /// The part of our table.
    pub(super) part: String,
    /// The kernel's words.
    pub(super) fault: Fault,
}

/// Tries. Where our table is there already, the kernel has shown that it can.
pub(super) fn run(socket: &mut Netfilter) -> Result<Option<Missing>, Fault> {
    if socket.get(GET_TABLE, INET, named())?.is_some() {
        return Ok(None);
    }
    propose(
        socket,
        ruleset(&some_settings(), LinkName::new("weft0").expect("a valid name"), &Unmasqueraded::everything()),
    )
}

fn propose(socket: &mut Netfilter, ruleset: Ruleset) -> Result<Option<Missing>, Fault> {
    let ruleset = Arc::new(ruleset);
    let put = Op::Put { key: Key::Ruleset, value: Value::Ruleset(ruleset.clone()), old: None, replace: false };
    let ops = [&put];
    let phases = plan::full(&Table::default(), &Wanted::new(&ops));
    let mut batch = [phases.grow, phases.change].concat();
    let never = batch.len();
    batch.push(plan::never());

    let refusals = match socket.transaction(&batch, None) {
        Err(refusals) => refusals,
        // The table is empty, new and harmless, but this cannot happen: its last message names a chain that is not
        // there.
        Ok(()) => return Ok(None),
    };
    let mut rules = ruleset.chains.iter().flat_map(|chain| chain.rules.iter().map(|rule| (chain.name.as_str(), rule)));
    let first = refusals.into_iter().filter(|(index, fault)| !is_wanted(*index, fault, never)).min_by_key(|it| it.0);
    Ok(first.map(|(index, fault)| Missing { part: part(&batch, index, &mut rules), fault }))
}

fn is_wanted(index: Option<usize>, fault: &Fault, never: usize) -> bool {
    index == Some(never) && fault.is(Errno::NOENT)
}

fn part<'a>(batch: &[Message], index: Option<usize>, rules: &mut impl Iterator<Item = (&'a str, &'a Rule)>) -> String {
    let Some(index) = index else { return "nftables transactions".to_owned() };
    let is_rule = |message: &&Message| message.kind == plan::NEW_RULE;
    let ordinal = batch[..index].iter().filter(is_rule).count();
    match batch[index].kind {
        plan::NEW_TABLE => "nftables tables of family inet".to_owned(),
        plan::NEW_SET => "nftables sets of addresses and ranges".to_owned(),
        plan::NEW_OBJECT => "named nftables counters".to_owned(),
        plan::NEW_CHAIN => "nftables chains of types filter and nat in family inet".to_owned(),
        _ => match rules.nth(ordinal) {
            Some((chain, rule)) => format!("the nftables rule {rule:?} in chain {chain}"),
            None => "nftables rules".to_owned(),
        },
    }
}

/// Settings whose rules use every expression that any settings' rules use.
fn some_settings() -> Settings {
    let vni = Vni::new(87).expect("in range");
    Settings {
        pools: Vec::new(),
        mode: Mode::CrossSubnet,
        vni,
        port: 4789,
        outer: Family::V4,
        more: Default::default(),
    }
}

#[cfg(test)]
#[path = "../../../tests/support/netns.rs"]
mod netns;

#[cfg(test)]
mod tests {
    use weft_core::nft::Expr;

    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_named_and_nothing_is_left() {
        netns::inside("kernel::nft::trial::tests::what_the_kernel_lacks_is_named_and_nothing_is_left", || async {
            let mut socket = Netfilter::open().expect("a socket");
            assert!(run(&mut socket).expect("an answer").is_none());
            let mut strange =
                ruleset(&some_settings(), LinkName::new("weft0").expect("a valid name"), &Unmasqueraded::everything());
            strange.chains[2].rules[1].push(Expr::Foreign("teleport".to_owned()));
            let missing = propose(&mut socket, strange).expect("an answer").expect("there is no such expression");
            assert!(missing.part.contains("teleport") && missing.part.contains("in chain forward"), "{}", missing.part);
            assert!(socket.get(GET_TABLE, INET, named()).expect("an answer").is_none(), "a table was left behind");
        });
    }
}
