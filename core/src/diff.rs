//! From what is there to what should be, as operations in an order the kernel accepts.
//!
//! Make before break: everything missing is put in order of dependency, then what is too much is deleted in the reverse
//! order; what is only different is replaced in place. The one exception is a device that cannot become the wanted one:
//! it is deleted first, and all that goes with it is put again in the same plan. Must never plan for an object that is
//! not provably ours.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
};

use crate::{
    kernel::{Key, Objects, Observed, Route, Seen, Value, Via},
    types::LinkName,
};

/// One change of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Create the object, or change it in place.
    Put {
        /// Which object.
        key: Key,
        /// What it becomes.
        value: Value,
        /// What it is now, if it is ours.
        old: Option<Seen>,
        /// True if its place is held by what used to be ours and was altered: replace that.
        replace: bool,
    },
    /// Remove the object; what goes with it goes too.
    Delete {
        /// Which object.
        key: Key,
        /// What it is now.
        old: Seen,
    },
}

impl Op {
    /// The object concerned.
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }
}

/// What to do, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The operations.
    pub ops: Vec<Op>,
    /// Wanted objects whose place somebody else's object holds, ascending: nothing is done about them, nor about what
    /// depends on them, but to report them.
    pub conflicts: Vec<Key>,
}

impl Plan {
    /// True where nothing is to be done and nothing to be reported.
    pub const fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.conflicts.is_empty()
    }
}

/// The plan that leads from `observed` to `desired`. `held` tells whether our own object was read back from a key before:
/// what is there now without our marks is then ours, altered. `device` is the name of the tunnel device.
pub fn diff(observed: &Observed, desired: &Objects, held: &dyn Fn(&Key) -> bool, device: LinkName) -> Plan {
    let fate = Fate::of(observed, desired, held, device);
    let mut plan = Plan::default();
    if let Fate::Recreate { old, .. } = &fate {
        plan.ops.push(Op::Delete { key: Key::Device, old: (*old).clone() });
    }
    let mut deletes = Vec::new();
    for (key, have, want) in join(observed.ours.iter(), desired.iter()) {
        match (have.filter(|have| !fate.has_taken(key, have)), want) {
            (have, Some(want)) => put(&mut plan, key, have, want, observed, held, &fate),
            (Some(have), None) if !fate.will_take(key, have) => deletes.push((key, have)),
            (_, None) => {}
        }
    }
    let without_table = deletes.iter().any(|(key, _)| **key == Key::Ruleset);
    let wanted = |key: &Key| match key {
        Key::Sysctl(_) => false,
        Key::Element(..) | Key::Bound(..) => !without_table,
        _ => true,
    };
    let deletes = deletes.into_iter().rev().filter(|(key, _)| wanted(key));
    plan.ops.extend(deletes.map(|(key, old)| Op::Delete { key: *key, old: old.clone() }));
    plan
}

/// The plan for a few objects: `observed` was read for `keys` only, and `desired` may hold more. None where the device is
/// among them and is not there or must be created anew: that concerns everything on it, so look at everything.
pub fn diff_keys(
    observed: &Observed,
    desired: &Objects,
    keys: &BTreeSet<Key>,
    held: &dyn Fn(&Key) -> bool,
    device: LinkName,
) -> Option<Plan> {
    let observed = Observed {
        ours: only(&observed.ours, keys),
        device: observed.device,
        foreign: observed.foreign.intersection(keys).copied().collect(),
        links: BTreeSet::new(),
    };
    let desired = only(desired, keys);
    if keys.contains(&Key::Device) && !matches!(Fate::of(&observed, &desired, held, device), Fate::Stay) {
        return None;
    }
    Some(diff(&observed, &desired, held, device))
}

fn only<V: Clone>(objects: &BTreeMap<Key, V>, keys: &BTreeSet<Key>) -> BTreeMap<Key, V> {
    keys.iter().filter_map(|key| objects.get(key).map(|value| (*key, value.clone()))).collect()
}

/// What happens to the device, and so to all that lives on it.
enum Fate<'a> {
    /// It stays, or is not part of the reading.
    Stay,
    /// It is not there yet, or lost our mark: what a reading shows on it is not to be relied on.
    Create { device: LinkName },
    /// It goes, and what is on it with it.
    Delete { device: LinkName },
    /// It goes and comes back empty.
    Recreate { device: LinkName, old: &'a Seen },
    /// Its name belongs to a link that is not ours.
    Foreign { device: LinkName },
}

impl<'a> Fate<'a> {
    fn of(observed: &'a Observed, desired: &Objects, held: &dyn Fn(&Key) -> bool, device: LinkName) -> Self {
        let name = observed.device.unwrap_or(device);
        match (observed.ours.get(&Key::Device), desired.get(&Key::Device)) {
            (Some(old), Some(want)) if !can_become(old, want) => Self::Recreate { device: name, old },
            (Some(_), None) => Self::Delete { device: name },
            (None, Some(_)) if observed.foreign.contains(&Key::Device) && !held(&Key::Device) => {
                Self::Foreign { device }
            }
            (None, Some(_)) => Self::Create { device },
            _ => Self::Stay,
        }
    }

    /// True where an object that was read is gone before the puts begin.
    fn has_taken(&self, key: &Key, seen: &Seen) -> bool {
        match self {
            Self::Create { device } | Self::Recreate { device, .. } => key.goes_with_device(seen.value(), *device),
            Self::Stay | Self::Delete { .. } | Self::Foreign { .. } => false,
        }
    }

    /// True where an object goes in the end without an operation of its own.
    fn will_take(&self, key: &Key, seen: &Seen) -> bool {
        matches!(self, Self::Delete { device } if *key != Key::Device && key.goes_with_device(seen.value(), *device))
    }

    /// True where an object cannot be put, because it would land on somebody else's link.
    fn forbids(&self, key: &Key, value: &Value) -> bool {
        matches!(self, Self::Foreign { device } if *key != Key::Device && key.goes_with_device(Some(value), *device))
    }
}

/// True if the device can be changed in place. One that was altered cannot: the kernel keeps most of what it was made with.
fn can_become(old: &Seen, want: &Value) -> bool {
    match (old, want) {
        (Seen::As(Value::Device(have)), Value::Device(want)) => have.can_become(want),
        _ => false,
    }
}

fn put(
    plan: &mut Plan,
    key: &Key,
    have: Option<&Seen>,
    want: &Value,
    observed: &Observed,
    held: &dyn Fn(&Key) -> bool,
    fate: &Fate<'_>,
) {
    if have.is_some_and(|have| have.is(want)) || fate.forbids(key, want) || leads_astray(key, want, &plan.conflicts) {
        return;
    }
    let replace = have.is_none() && observed.foreign.contains(key);
    if replace && !held(key) {
        plan.conflicts.push(*key);
        return;
    }
    plan.ops.push(Op::Put { key: *key, value: want.clone(), old: have.cloned(), replace });
}

/// True for what needs an object whose place somebody else's holds: a route through that nexthop, an element of that
/// table. Conflicts are ascending, and what is needed comes before what needs it.
fn leads_astray(key: &Key, want: &Value, conflicts: &[Key]) -> bool {
    let needs = match (key, want) {
        (_, Value::Route(Route { via: Via::Nexthop(id), .. })) => Key::Nexthop(*id),
        (Key::Element(..) | Key::Bound(..), _) => Key::Ruleset,
        _ => return false,
    };
    conflicts.binary_search(&needs).is_ok()
}

/// Both sides of every key, ascending; each key once.
fn join<'a>(
    have: impl Iterator<Item = (&'a Key, &'a Seen)>,
    want: impl Iterator<Item = (&'a Key, &'a Value)>,
) -> impl Iterator<Item = (&'a Key, Option<&'a Seen>, Option<&'a Value>)> {
    let (mut have, mut want) = (have.peekable(), want.peekable());
    std::iter::from_fn(move || match order(&mut have, &mut want)? {
        Ordering::Less => have.next().map(|(key, value)| (key, Some(value), None)),
        Ordering::Greater => want.next().map(|(key, value)| (key, None, Some(value))),
        Ordering::Equal => have.next().zip(want.next()).map(|((key, have), (_, want))| (key, Some(have), Some(want))),
    })
}

/// On which side the next key is, or none at the end of both.
fn order<'a, T, U>(have: &mut Peekable<T>, want: &mut Peekable<U>) -> Option<Ordering>
where
    T: Iterator<Item = (&'a Key, &'a Seen)>,
    U: Iterator<Item = (&'a Key, &'a Value)>,
{
    match (have.peek(), want.peek()) {
        (None, None) => None,
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (Some((have, _)), Some((want, _))) => Some(have.cmp(want)),
    }
}
