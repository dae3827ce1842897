//! From operations to the messages of a transaction.
//!
//! Pure. Owns the order: nothing is deleted before what refers to it, sets and named counters outlive a change of the
//! chains, and where a transaction has to be cut in several, members are let in first and shut out last. Must never
//! flush what it does not fill again in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use weft_core::{
    diff::Op,
    kernel::{Key, Value},
    nft::{Chain, ChainKind, CounterName, Ruleset, SetName},
};

use super::{
    elements, expression, set,
    step::COUNTER,
    table::{FoundChain, FoundSet, HOOKS, Table, named},
    wire::{APPEND, Attributes, CREATE, INET, Message},
};

/// `NFT_MSG_…`.
pub(super) const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
pub(super) const NEW_RULE: u16 = 6;
/// `NFTA_CHAIN_TYPE`.
pub(super) const CHAIN_TYPE: u16 = 7;
const DELETE_RULE: u16 = 8;
pub(super) const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
pub(super) const NEW_OBJECT: u16 = 18;
const DELETE_OBJECT: u16 = 20;
const DELETE_FLOWTABLE: u16 = 24;
/// `NF_ACCEPT`, as a chain's policy.
const ACCEPT: u32 = 1;

type Elements = BTreeMap<SetName, BTreeSet<Key>>;

/// What a list of operations asks of the table.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    /// The chains, where they are to be put.
    pub(super) ruleset: Option<&'a Ruleset>,
    /// The table is to go.
    pub(super) destroy: bool,
    put: Elements,
    delete: Elements,
}

impl<'a> Wanted<'a> {
    /// Sorts the operations; those that are not about the table are left out.
    pub(super) fn new(ops: &[&'a Op]) -> Self {
        let mut wanted = Self::default();
        for op in ops {
            match op {
                Op::Put { key: Key::Ruleset, value: Value::Ruleset(ruleset), .. } => wanted.ruleset = Some(ruleset),
                Op::Delete { key: Key::Ruleset, .. } => wanted.destroy = true,
                Op::Put { key, .. } => add(&mut wanted.put, *key),
                Op::Delete { key, .. } => add(&mut wanted.delete, *key),
            }
        }
        wanted
    }

    /// True where only elements change, which needs no knowledge of the table.
    pub(super) fn is_elements_only(&self) -> bool {
        self.ruleset.is_none() && !self.destroy
    }

    /// The same without what the kernel has or lacks already.
    fn against(&self, table: &Table) -> (Elements, Elements) {
        let holds = |set: SetName, key: &Key| table.set(set).is_some_and(|found| found.content.keys.contains(key));
        let filter = |elements: &Elements, present: bool| {
            let keep = |set: SetName, keys: &BTreeSet<Key>| {
                keys.iter().copied().filter(|key| holds(set, key) == present).collect()
            };
            elements.iter().map(|(set, keys)| (*set, keep(*set, keys))).collect()
        };
        (filter(&self.put, false), filter(&self.delete, true))
    }
}

fn add(elements: &mut Elements, key: Key) {
    if let Some(set) = key.set() {
        elements.entry(set).or_default().insert(key);
    }
}

/// A transaction's messages in order. Where it is too large for one, `grow` and `shrink` can be cut anywhere and
/// `change` cannot.
#[derive(Debug, Default)]
pub(super) struct Phases {
    pub(super) grow: Vec<Message>,
    pub(super) change: Vec<Message>,
    pub(super) shrink: Vec<Message>,
}

/// The messages for changes of elements alone, whatever the kernel holds.
pub(super) fn blind(wanted: &Wanted<'_>) -> Phases {
    elements_of(&wanted.put, &wanted.delete)
}

/// The message that takes the table out of its sleep (`NFT_TABLE_F_DORMANT`). The kernel refuses this together with
/// changes of base chains, so it goes first and alone.
pub(super) fn wake() -> Phases {
    Phases { change: vec![message(NEW_TABLE, 0, named().number(2, 0))], ..Phases::default() }
}

/// A message that the kernel refuses in any case: it deletes a chain that is not there.
pub(super) fn never() -> Message {
    message(DELETE_CHAIN, 0, named().text(3, "never"))
}

/// The messages for all of `wanted`, on what `table` says is there.
pub(super) fn full(table: &Table, wanted: &Wanted<'_>) -> Phases {
    if wanted.destroy {
        let change = table.flags.iter().map(|_| message(DELETE_TABLE, 0, named())).collect();
        return Phases { change, ..Phases::default() };
    }
    let (mut put, mut delete) = wanted.against(table);
    let Some(ruleset) = wanted.ruleset else { return elements_of(&put, &delete) };
    let sets = ruleset.sets();
    // What is in a set goes with it.
    delete.retain(|set, _| sets.contains(set));

    let mut structure = Phases::default();
    if table.flags.is_none() {
        structure.grow.push(message(NEW_TABLE, CREATE, named()));
    }
    structure.grow.extend(sets.iter().copied().filter(|set| table.set(*set).is_none()).map(new_set));
    let missing = |name: &CounterName| !table.objects.iter().any(|(found, _)| found == name.as_str());
    structure.grow.extend(CounterName::ALL.into_iter().filter(missing).map(new_counter));

    clear(table, ruleset, &sets, &mut structure.change);
    for unsound in table.sets.iter().filter(|found| !found.sound && is_needed(found, &sets)) {
        renew(unsound, &mut put, &mut delete, &mut structure.change);
    }
    let misused = |name: &CounterName| !missing(name) && !table.has_counter(*name);
    structure.change.extend(CounterName::ALL.into_iter().filter(misused).map(new_counter));
    let absent = |chain: &&Chain| !table.chains.iter().any(|found| is_kept(found, std::slice::from_ref(*chain)));
    structure.change.extend(ruleset.chains.iter().filter(absent).map(new_chain));
    structure.change.extend(ruleset.chains.iter().flat_map(new_rules));

    let elements = elements_of(&put, &delete);
    structure.grow.extend(elements.grow);
    structure.change.extend(elements.change);
    Phases { shrink: elements.shrink, ..structure }
}

/// Takes away all rules and then, now that nothing refers to it, what is not ours.
fn clear(table: &Table, ruleset: &Ruleset, sets: &BTreeSet<SetName>, messages: &mut Vec<Message>) {
    if !table.chains.is_empty() {
        messages.push(message(DELETE_RULE, 0, named()));
    }
    let strange =
        table.sets.iter().filter(|found| !found.sound || !is_needed(found, sets)).filter(|found| !found.bound);
    messages.extend(strange.map(|found| message(DELETE_SET, 0, named().text(2, &found.name))));
    messages.extend(table.flowtables.iter().map(|name| message(DELETE_FLOWTABLE, 0, named().text(2, name))));
    let odd = table.chains.iter().filter(|found| !found.bound && !is_kept(found, &ruleset.chains));
    messages.extend(odd.map(|found| message(DELETE_CHAIN, 0, named().text(3, &found.name))));
    let objects = table.strange_objects();
    messages.extend(objects.map(|(name, kind)| message(DELETE_OBJECT, 0, named().text(2, name).number(3, *kind))));
}

fn is_needed(found: &FoundSet, sets: &BTreeSet<SetName>) -> bool {
    found.ours.is_some_and(|set| sets.contains(&set))
}

/// True where the chain can stay and only its rules change.
fn is_kept(found: &FoundChain, wanted: &[Chain]) -> bool {
    found
        .base
        .as_ref()
        .is_some_and(|base| wanted.iter().any(|chain| chain.place() == base.place() && chain.kind == base.kind))
}

/// Creates an unsound set of ours anew, with the elements that it shall hold: the old ones in it never cease to match.
fn renew(found: &FoundSet, put: &mut Elements, delete: &mut Elements, messages: &mut Vec<Message>) {
    let Some(set) = found.ours else { return };
    let mut keys = found.content.keys.clone();
    keys.extend(put.remove(&set).unwrap_or_default());
    for gone in delete.remove(&set).unwrap_or_default() {
        keys.remove(&gone);
    }
    messages.push(new_set(set));
    change_elements(NEW_ELEMENT, CREATE, set, &keys, messages);
}

/// Members are added first and deleted last. Pools that overlap cannot be in a set together, so theirs change at once:
/// first the deletions, then the additions.
fn elements_of(put: &Elements, delete: &Elements) -> Phases {
    let mut phases = Phases::default();
    for (set, keys) in delete {
        let phase = if set.is_interval() { &mut phases.change } else { &mut phases.shrink };
        change_elements(DELETE_ELEMENT, 0, *set, keys, phase);
    }
    for (set, keys) in put {
        let phase = if set.is_interval() { &mut phases.change } else { &mut phases.grow };
        change_elements(NEW_ELEMENT, CREATE, *set, keys, phase);
    }
    phases
}

fn change_elements(kind: u16, flags: u16, set: SetName, keys: &BTreeSet<Key>, to: &mut Vec<Message>) {
    let keys: Vec<Key> = keys.iter().copied().collect();
    for (attributes, chunk) in elements::lists(set, &keys) {
        to.push(Message { kind, flags, family: INET, attributes, keys: chunk.to_vec() });
    }
}

fn new_set(set: SetName) -> Message {
    message(NEW_SET, CREATE, set::description(set))
}

fn new_counter(name: CounterName) -> Message {
    let attributes = named().text(2, name.as_str()).number(3, COUNTER).nest(4, &Attributes::new());
    message(NEW_OBJECT, CREATE, attributes)
}

fn new_chain(chain: &Chain) -> Message {
    let number = HOOKS.iter().position(|hook| *hook == chain.hook).map_or(0, |index| index as u32);
    let hook = Attributes::new().number(1, number).number(2, chain.priority.cast_unsigned());
    let kind = match chain.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    };
    message(NEW_CHAIN, CREATE, named().text(3, &chain.name).nest(4, &hook).number(5, ACCEPT).text(CHAIN_TYPE, kind))
}

fn new_rules(chain: &Chain) -> impl Iterator<Item = Message> + '_ {
    chain.rules.iter().map(|rule| {
        let expressions = expression::encode_rule(rule);
        message(NEW_RULE, CREATE | APPEND, named().text(2, &chain.name).nest(4, &expressions))
    })
}

fn message(kind: u16, flags: u16, attributes: Attributes) -> Message {
    Message { kind, flags, family: INET, attributes, keys: vec![Key::Ruleset] }
}
