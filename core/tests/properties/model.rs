//! A model of one kernel, strict where the real one is: what an operation needs must be there, what it creates must not.

use std::collections::BTreeSet;

use weft_core::{
    diff::Op,
    kernel::{Key, Objects, Observed, Route, Seen, SeenObjects, Value, Via, seen},
    types::LinkName,
};

/// Carries out one operation, or says why the kernel would not.
pub(crate) fn apply(state: &mut Observed, op: &Op, device: LinkName) -> Result<(), String> {
    match op {
        Op::Put { key, value, old, replace } => {
            if state.ours.get(key) != old.as_ref() {
                return Err(format!("{key}: is {:?}, the plan says {old:?}", state.ours.get(key)));
            }
            if state.foreign.contains(key) && !replace {
                return Err(format!("{key}: a foreign object is touched"));
            }
            if let (Some(Seen::As(Value::Device(old))), Value::Device(new)) = (old, value)
                && !old.can_become(new)
            {
                return Err(format!("{key}: cannot be changed in place"));
            }
            if !has_what_it_needs(&state.ours, key, Some(value), device) {
                return Err(format!("{key}: what it needs is not there"));
            }
            state.foreign.remove(key);
            state.ours.insert(*key, Seen::As(value.clone()));
        }
        Op::Delete { key: Key::Sysctl(_), .. } => return Err(format!("{}: cannot be deleted", op.key())),
        Op::Delete { key, old } => {
            if state.ours.remove(key).as_ref() != Some(old) {
                return Err(format!("{key}: to be deleted, but is not like that"));
            }
            settle(&mut state.ours, device);
        }
    }
    Ok(())
}

/// Drops all that cannot be without what is not there.
pub(crate) fn settle(ours: &mut SeenObjects, device: LinkName) {
    loop {
        let held = ours.clone();
        ours.retain(|key, seen| has_what_it_needs(&held, key, seen.value(), device));
        if ours.len() == held.len() {
            return;
        }
    }
}

fn has_what_it_needs(ours: &SeenObjects, key: &Key, value: Option<&Value>, device: LinkName) -> bool {
    let route_is_fine = match value {
        Some(Value::Route(Route { via: Via::Nexthop(id), .. })) => ours.contains_key(&Key::Nexthop(*id)),
        _ => true,
    };
    let device_is_fine = match ours.get(&Key::Device) {
        Some(Seen::As(Value::Device(have))) => !key.goes_with_device(value, device) || have.name == device,
        Some(_) => true,
        None => *key == Key::Device || !key.goes_with_device(value, device),
    };
    let table_is_fine = !matches!(key, Key::Element(..) | Key::Bound(..)) || ours.contains_key(&Key::Ruleset);
    route_is_fine && device_is_fine && table_is_fine
}

/// Carries out a plan.
pub(crate) fn run(state: &mut Observed, ops: &[Op], device: LinkName) -> Result<(), String> {
    ops.iter().try_for_each(|op| apply(state, op, device))
}

/// What a plan can reach at most: not what foreign objects are in the way of.
pub(crate) fn reachable(desired: &Objects, conflicts: &[Key], device: LinkName) -> Objects {
    let conflicts: BTreeSet<_> = conflicts.iter().collect();
    let mut reachable = seen(desired.clone());
    reachable.retain(|key, _| !conflicts.contains(key));
    settle(&mut reachable, device);
    desired.iter().filter(|(key, _)| reachable.contains_key(key)).map(|(key, value)| (*key, value.clone())).collect()
}
