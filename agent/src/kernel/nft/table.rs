//! Table `inet weft` as the kernel holds it, read whole.
//!
//! Owns reading and judging: what of it is ours as we would write it, and what is not. Chains, sets and counters of
//! ours that a foreign hand changed are not sound; the transaction replaces them. Must never return a view in which
//! parts are of different generations.

use std::{collections::BTreeSet, sync::Arc};

use tracing::debug;
use weft_core::{
    kernel::{Key, Seen, SeenObjects, Value},
    nft::{Chain, ChainKind, CounterName, Hook, Ruleset, SetName, TABLE, sets},
};

use super::{
    elements::{self, Content},
    expression, set,
    socket::{Fault, Netfilter},
    step::COUNTER,
    wire::{Attributes, INET, Malformed, Parsed, UNSPEC},
};

/// `NFT_MSG_GET…`.
pub(super) const GET_TABLE: u16 = 1;
pub(super) const GET_CHAIN: u16 = 4;
pub(super) const GET_RULE: u16 = 7;
pub(super) const GET_SET: u16 = 10;
pub(super) const GET_ELEMENT: u16 = 13;
pub(super) const GET_GENERATION: u16 = 16;
pub(super) const GET_OBJECT: u16 = 19;
const GET_FLOWTABLE: u16 = 23;
/// The first attribute of every nf_tables object: the name of its table.
pub(super) const TABLE_NAME: u16 = 1;
/// `NFT_CHAIN_BASE`.
const BASE_CHAIN: u32 = 1;
/// `NFT_SET_ANONYMOUS`.
const ANONYMOUS: u32 = 1;
/// `NFT_CHAIN_BINDING`: a chain that lives with the rule that names it.
const BINDING: u32 = 4;

/// The table.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The kernel's generation at which all of this held.
    pub(super) generation: u32,
    /// `NFT_TABLE_F_…`, none where there is no table.
    pub(super) flags: Option<u32>,
    pub(super) chains: Vec<FoundChain>,
    pub(super) sets: Vec<FoundSet>,
    /// Stateful objects by name and type.
    pub(super) objects: Vec<(String, u32)>,
    pub(super) flowtables: Vec<String>,
}

/// A chain with its rules.
#[derive(Debug)]
pub(super) struct FoundChain {
    pub(super) name: String,
    /// As a base chain with policy accept, where it is one and nothing else.
    pub(super) base: Option<Chain>,
    /// True where it goes away with the rule that names it.
    pub(super) bound: bool,
}

/// A set.
#[derive(Debug)]
pub(super) struct FoundSet {
    pub(super) name: String,
    /// Which of ours has this name.
    pub(super) ours: Option<SetName>,
    /// It is as we would create it.
    pub(super) sound: bool,
    /// True where it goes away with the rule that names it.
    pub(super) bound: bool,
    /// What it holds, where it is one of ours.
    pub(super) content: Content,
}

/// The attribute by which requests name the table.
pub(super) fn named() -> Attributes {
    Attributes::new().text(TABLE_NAME, TABLE)
}

impl Table {
    /// Reads the table; [`Fault::Interrupted`] where it changed meanwhile.
    pub(super) fn read(socket: &mut Netfilter) -> Result<Self, Fault> {
        let generation = generation(socket)?;
        let Some(table) = socket.get(GET_TABLE, INET, named())? else {
            return Ok(Self { generation, ..Self::default() });
        };
        let mut found = Self { generation, flags: table.attributes()?.number(2), ..Self::default() };
        found.flags.get_or_insert(0);
        found.read_chains(socket)?;
        found.read_rules(socket)?;
        found.read_sets(socket)?;
        for reply in socket.dump(GET_OBJECT, INET, named())? {
            let attributes = reply.attributes()?;
            found.objects.extend(own(&attributes).then(|| attributes.text(2)).flatten().zip(attributes.number(3)));
        }
        for reply in socket.dump(GET_FLOWTABLE, INET, named())? {
            let attributes = reply.attributes()?;
            found.flowtables.extend(own(&attributes).then(|| attributes.text(2)).flatten());
        }
        if self::generation(socket)? == generation { Ok(found) } else { Err(Fault::Interrupted) }
    }

    fn read_chains(&mut self, socket: &mut Netfilter) -> Result<(), Fault> {
        for reply in socket.dump(GET_CHAIN, INET, Attributes::new())? {
            let attributes = reply.attributes()?;
            if own(&attributes) {
                let name = attributes.text(3).ok_or(Malformed)?;
                let bound = attributes.number(10).unwrap_or_default() & BINDING != 0;
                self.chains.push(FoundChain { base: base_chain(&name, &attributes)?, name, bound });
            }
        }
        Ok(())
    }

    fn read_rules(&mut self, socket: &mut Netfilter) -> Result<(), Fault> {
        for reply in socket.dump(GET_RULE, INET, named())? {
            let attributes = reply.attributes()?;
            let chain = attributes.text(2).ok_or(Malformed)?;
            let rule = expression::decode_rule(&attributes.nest(4)?)?;
            let chain = self.chains.iter_mut().find(|found| found.name == chain).filter(|_| own(&attributes));
            if let Some(base) = chain.and_then(|found| found.base.as_mut()) {
                base.rules.push(rule);
            }
        }
        Ok(())
    }

    fn read_sets(&mut self, socket: &mut Netfilter) -> Result<(), Fault> {
        for reply in socket.dump(GET_SET, INET, named())? {
            let attributes = reply.attributes()?;
            if own(&attributes) {
                let name = attributes.text(2).ok_or(Malformed)?;
                let ours = SetName::find(&name);
                let bound = attributes.number(3).unwrap_or_default() & ANONYMOUS != 0;
                let mut sound = ours.map_or(Ok(false), |set| set::is_sound(set, &attributes))?;
                let content = ours.map_or(Ok(Content::default()), |set| content(socket, set))?;
                sound &= content.foreign.is_empty();
                self.sets.push(FoundSet { name, ours, sound, bound, content });
            }
        }
        Ok(())
    }

    /// The set of ours with this name, sound or not.
    pub(super) fn set(&self, set: SetName) -> Option<&FoundSet> {
        self.sets.iter().find(|found| found.ours == Some(set))
    }

    /// True where the counter is there, and a counter.
    pub(super) fn has_counter(&self, name: CounterName) -> bool {
        self.objects.iter().any(|(found, kind)| found == name.as_str() && *kind == COUNTER)
    }

    /// As objects of ours; none where there is no table.
    pub(super) fn objects(self) -> SeenObjects {
        let mut objects = SeenObjects::new();
        let Some(flags) = self.flags else { return objects };
        let foreign = self.foreign(flags);
        let mut chains: Vec<_> = self.chains.into_iter().filter_map(|found| found.base).collect();
        chains.sort_by(|a, b| a.place().cmp(&b.place()));
        for found in self.sets.into_iter().filter(|found| found.ours.is_some()) {
            objects.extend(found.content.keys.into_iter().map(|key| (key, Seen::As(Value::Present))));
        }
        let ruleset = if foreign.is_empty() {
            Seen::As(Value::Ruleset(Arc::new(Ruleset { chains })))
        } else {
            debug!("nftables table inet {TABLE} is not as Weft wrote it: {}", foreign.join("; "));
            Seen::Altered { in_place: true }
        };
        objects.insert(Key::Ruleset, ruleset);
        objects
    }

    /// What is not as we would write it and chains do not show, such as a missing counter, a set with other flags or a chain
    /// with policy drop.
    fn foreign(&self, flags: u32) -> Vec<String> {
        let mut foreign = Vec::new();
        if flags != 0 {
            foreign.push(format!("the table has flags {flags:#x}"));
        }
        let odd = |found: &&FoundChain| found.base.is_none();
        foreign.extend(
            self.chains
                .iter()
                .filter(odd)
                .map(|found| format!("chain {} is no base chain with policy accept", found.name)),
        );
        let needed = self.needed_sets();
        for set in needed.iter().copied() {
            match self.set(set) {
                None => foreign.push(format!("set {set} is missing")),
                Some(found) if found.content.foreign.is_empty() && !found.sound => {
                    foreign.push(format!("set {set} has another type or other flags"));
                }
                Some(found) => foreign.extend(found.content.foreign.iter().cloned()),
            }
        }
        for counter in CounterName::ALL.into_iter().filter(|name| !self.has_counter(*name)) {
            foreign.push(format!("counter {} is missing", counter.as_str()));
        }
        let strange_set = |found: &&FoundSet| found.ours.is_none_or(|set| !needed.contains(&set));
        foreign
            .extend(self.sets.iter().filter(strange_set).map(|found| format!("set {} is of no use to us", found.name)));
        foreign.extend(self.strange_objects().map(|(name, _)| format!("object {name} is not ours")));
        foreign.extend(self.flowtables.iter().map(|name| format!("flowtable {name} is not ours")));
        foreign
    }

    /// Sets that are there always, or that rules look up.
    fn needed_sets(&self) -> BTreeSet<SetName> {
        sets(self.chains.iter().filter_map(|found| found.base.as_ref()))
    }

    /// Stateful objects that no rule of ours needs.
    pub(super) fn strange_objects(&self) -> impl Iterator<Item = &(String, u32)> {
        let ours = |name: &str| CounterName::ALL.into_iter().any(|counter| counter.as_str() == name);
        self.objects.iter().filter(move |(name, kind)| *kind != COUNTER || !ours(name))
    }
}

/// The generation of the kernel's rule sets, raised by every transaction of anybody.
pub(super) fn generation(socket: &mut Netfilter) -> Result<u32, Fault> {
    let reply = socket.get(GET_GENERATION, UNSPEC, Attributes::new())?.ok_or(Malformed)?;
    Ok(reply.attributes()?.number(1).ok_or(Malformed)?)
}

/// What a set of ours holds.
pub(super) fn content(socket: &mut Netfilter, set: SetName) -> Result<Content, Fault> {
    let mut reader = elements::Reader::new(set);
    for reply in socket.dump(GET_ELEMENT, INET, elements::list(&set.to_string()))? {
        reader.take(&reply.attributes()?)?;
    }
    Ok(reader.finish())
}

fn own(attributes: &Parsed<'_>) -> bool {
    attributes.text(TABLE_NAME).as_deref() == Some(TABLE)
}

/// `NFTA_CHAIN_…`: a base chain with policy accept and no flag but that it is one.
fn base_chain(name: &str, attributes: &Parsed<'_>) -> Result<Option<Chain>, Malformed> {
    let hook = attributes.nest(4)?;
    let kind = match attributes.text(7).as_deref() {
        Some("filter") => ChainKind::Filter,
        Some("nat") => ChainKind::Nat,
        _ => return Ok(None),
    };
    let accepts = attributes.number(5) == Some(1);
    let plain = attributes.number(10).unwrap_or(BASE_CHAIN) == BASE_CHAIN && hook.is_exactly(&[1, 2], 4);
    let place = hook.number(1).and_then(read_hook).zip(hook.number(2));
    Ok(place.filter(|_| accepts && plain).map(|(hook, priority)| Chain {
        name: name.to_owned(),
        kind,
        hook,
        priority: priority.cast_signed(),
        rules: Vec::new(),
    }))
}

/// `enum nf_inet_hooks`.
pub(super) const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

fn read_hook(number: u32) -> Option<Hook> {
    HOOKS.get(usize::try_from(number).ok()?).copied()
}
