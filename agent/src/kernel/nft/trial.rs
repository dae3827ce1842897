//! Asks the kernel whether it could take our table, without changing anything.
//!
//! A transaction with all we need ends in a message that must fail: the kernel checks each message, says which it
//! refuses, and then undoes all of them. Must never be a transaction that can succeed.

use std::sync::Arc;

use rustix::io::Errno;
use weft_core::{
    diff::Op,
    encap::Encapsulation,
    kernel::{Key, Value},
    masquerade::Unmasqueraded,
    membership::Prefixes,
    nft::{Chain, Rule, Ruleset, module, ruleset, words},
    settings::{Mode, Settings},
    types::{Family, LinkName, Vni},
};

use super::{
    KernelError,
    plan::{self, Wanted},
    socket::{Fault, Netfilter},
    table::{GET_TABLE, Table, named},
    transaction::error,
    wire::{INET, Message, Parsed},
};

/// A module of the kernel, and the option by which it is built.
pub(crate) type Module = (&'static str, &'static str);
/// What everything else stands on.
const NF_TABLES: Module = ("nf_tables", "CONFIG_NF_TABLES");
const INET_TABLES: Module = ("nf_tables", "CONFIG_NF_TABLES_INET");

/// What the kernel does not take of our table.
#[derive(Debug)]
pub(crate) struct Missing {
    /// The part and the kernel's words.
    pub(crate) error: KernelError,
    /// What to load.
    pub(crate) module: Module,
}

/// A part of our table, and what it takes.
type Part = (String, Module);

/// Tries. Where our table is there already, the kernel has shown that it can.
pub(super) fn run(socket: &mut Netfilter) -> Result<(), Missing> {
    match socket.get(GET_TABLE, INET, named()) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => propose(socket, some_rules()),
        // nfnetlink's words for a subsystem that nobody has registered, among others.
        Err(fault) => Err(missing(("nftables".to_owned(), NF_TABLES), &fault)),
    }
}

fn propose(socket: &mut Netfilter, ruleset: Ruleset) -> Result<(), Missing> {
    let ruleset = Arc::new(ruleset);
    let (batch, refused) = first_refusal(socket, &ruleset);
    let Some((index, fault)) = refused else { return Ok(()) };
    let part = match refused_rule(&batch, index, &ruleset) {
        Some((chain, rule)) => rule_in_words(socket, chain, rule),
        None => part(&batch, index),
    };
    Err(missing(part, &fault))
}

fn missing((part, module): Part, fault: &Fault) -> Missing {
    Missing { error: error(part, fault), module }
}

/// The messages that would make all of it, and the first that the kernel refuses.
fn first_refusal(socket: &mut Netfilter, ruleset: &Arc<Ruleset>) -> (Vec<Message>, Option<(Option<usize>, Fault)>) {
    let put = Op::Put { key: Key::Ruleset, value: Value::Ruleset(Arc::clone(ruleset)), old: None, replace: false };
    let ops = [&put];
    let phases = plan::full(&Table::default(), &Wanted::new(&ops));
    let mut batch = [phases.grow, phases.change].concat();
    let never = batch.len();
    batch.push(plan::never());
    // Success cannot happen: the last message names a chain that is not there. The table would be empty, new and harmless.
    let refusals = socket.transaction(&batch, None).err().unwrap_or_default();
    let first = refusals.into_iter().filter(|(index, fault)| !is_wanted(*index, fault, never)).min_by_key(|it| it.0);
    (batch, first)
}

/// The rule that a refusal is about, with its chain.
fn refused_rule<'a>(batch: &[Message], index: Option<usize>, ruleset: &'a Ruleset) -> Option<(&'a Chain, &'a Rule)> {
    let index = index.filter(|index| batch[*index].kind == plan::NEW_RULE)?;
    let ordinal = batch[..index].iter().filter(|message| message.kind == plan::NEW_RULE).count();
    let mut rules = ruleset.chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)));
    rules.nth(ordinal)
}

/// The rule in nft's own words, with the part of it that the kernel lacks.
fn rule_in_words(socket: &mut Netfilter, chain: &Chain, rule: &Rule) -> Part {
    let told = format!("the nftables rule \"{}\" in chain {}", words(rule), chain.name);
    // Each time with one expression more: the last of the first that is refused is what is missing.
    let culprit = (1..=rule.len()).find(|length| {
        let short = Chain { rules: vec![rule[..*length].to_vec()], ..chain.clone() };
        let ruleset = Arc::new(Ruleset { chains: vec![short] });
        first_refusal(socket, &ruleset).1.is_some()
    });
    match culprit.map(|length| &rule[length - 1]) {
        None => (told, NF_TABLES),
        Some(expr) => (format!("{told}, as it lacks \"{expr}\""), module(expr).unwrap_or(NF_TABLES)),
    }
}

fn is_wanted(index: Option<usize>, fault: &Fault, never: usize) -> bool {
    index == Some(never) && fault.is(Errno::NOENT)
}

/// What no rule is about.
fn part(batch: &[Message], index: Option<usize>) -> Part {
    let Some(message) = index.and_then(|index| batch.get(index)) else {
        return ("nftables transactions".to_owned(), NF_TABLES);
    };
    let parsed = Parsed::new(message.attributes.as_bytes());
    let of_nat = parsed.is_ok_and(|attributes| attributes.text(plan::CHAIN_TYPE).as_deref() == Some("nat"));
    let (what, module) = match message.kind {
        plan::NEW_TABLE => ("nftables tables of family inet", INET_TABLES),
        plan::NEW_SET => ("nftables sets of addresses, pairs and ranges", NF_TABLES),
        plan::NEW_OBJECT => ("named nftables counters", ("nft_counter", "CONFIG_NFT_COUNTER")),
        plan::NEW_CHAIN if of_nat => ("nftables chains of type nat", ("nft_chain_nat", "CONFIG_NFT_NAT")),
        plan::NEW_CHAIN => ("nftables chains of type filter", INET_TABLES),
        _ => ("nftables rules", NF_TABLES),
    };
    (what.to_owned(), module)
}

/// Rules that use every expression that any rules of ours use.
fn some_rules() -> Ruleset {
    let device = LinkName::new("weft0").expect("a valid name");
    let prefixes: Prefixes = [(Family::V4, 24), (Family::V6, 64)].into_iter().collect();
    ruleset(&some_settings(), device, &Unmasqueraded::everything(), &prefixes)
}

fn some_settings() -> Settings {
    let vni = Vni::new(87).expect("in range");
    Settings {
        pools: Vec::new(),
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni, port: 4789, outer: Family::V4 },
        more: Default::default(),
    }
}

#[cfg(test)]
#[path = "../../../tests/kernel/netns.rs"]
mod netns;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use weft_core::nft::Expr;

    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_named_and_nothing_is_left() {
        netns::inside("kernel::nft::trial::tests::what_the_kernel_lacks_is_named_and_nothing_is_left", || async {
            let mut socket = Netfilter::open().expect("a socket");
            run(&mut socket).expect("it can");
            let mut strange = some_rules();
            strange.chains[2].rules[1].push(Expr::Foreign("teleport".to_owned()));
            let missing = propose(&mut socket, strange).expect_err("there is no such expression").error.to_string();
            assert!(missing.contains("in chain forward, as it lacks \"teleport\": "), "{missing}");
            assert!(!missing.contains("os error"), "the number is told once: {missing}");
            assert!(socket.get(GET_TABLE, INET, named()).expect("an answer").is_none(), "a table was left behind");
        });
    }

    #[test]
    fn a_part_that_no_rule_is_about_is_named_with_its_module() {
        let ruleset = Arc::new(some_rules());
        let put = Op::Put { key: Key::Ruleset, value: Value::Ruleset(ruleset), old: None, replace: false };
        let ops = [&put];
        let phases = plan::full(&Table::default(), &Wanted::new(&ops));
        let batch = [phases.grow, phases.change].concat();
        let told: BTreeSet<Part> = (0..batch.len()).map(|index| part(&batch, Some(index))).collect();
        for (words, module) in [
            ("nftables chains of type nat", ("nft_chain_nat", "CONFIG_NFT_NAT")),
            ("named nftables counters", ("nft_counter", "CONFIG_NFT_COUNTER")),
            ("nftables tables of family inet", INET_TABLES),
        ] {
            assert!(told.contains(&(words.to_owned(), module)), "{words}: {told:?}");
        }
    }
}
