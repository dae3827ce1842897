//! What the kernel should hold of ours, and what is known of it.
//!
//! Owns the answer to "is it ours?": an object that is wanted and was read back. Only in such an object's place may what is there
//! without our marks be replaced. Must never take for ours what was not read back, nor forget that it was because a reading or a
//! repair failed.

use std::collections::{BTreeMap, BTreeSet};

use weft_core::{
    diff::{Op, Plan, diff, diff_keys},
    kernel::{Key, Objects, Observed, Seen, Value},
    types::LinkName,
};

use crate::kernel::Failure;

/// The objects that are wanted, and where the kernel deviates from them.
#[derive(Debug)]
pub(super) struct Holdings {
    device: LinkName,
    desired: Objects,
    /// During a pass that wants other objects than the last one, what that one wanted: nothing else has been read back yet.
    earlier: Option<Objects>,
    /// Wanted objects that were never read back as ours: whoever holds their place may have been there before.
    unproven: BTreeSet<Key>,
    /// Where the kernel differed when it was last read, and could not be put right, with why.
    deviations: BTreeMap<Key, String>,
    /// Those of them that the kernel did not take.
    refused: BTreeSet<Key>,
}

impl Holdings {
    /// Nothing is wanted; `device` is the name of the tunnel device.
    pub(super) const fn new(device: LinkName) -> Self {
        Self {
            device,
            desired: Objects::new(),
            earlier: None,
            unproven: BTreeSet::new(),
            deviations: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    /// What is wanted.
    pub(super) const fn desired(&self) -> &Objects {
        &self.desired
    }

    /// Where the kernel deviates, with why.
    pub(super) const fn deviations(&self) -> &BTreeMap<Key, String> {
        &self.deviations
    }

    /// How many of the wanted objects are there as they should be.
    pub(super) fn held(&self) -> usize {
        self.desired.len() - self.deviations.len().min(self.desired.len())
    }

    /// True if our own object was read back from there before: what is there now without our marks is ours, altered.
    fn is_ours(&self, key: &Key) -> bool {
        let was_wanted = self.earlier.as_ref().is_none_or(|earlier| earlier.contains_key(key));
        was_wanted && self.desired.contains_key(key) && !self.unproven.contains(key)
    }

    /// True if the kernel itself did not take it when it was last put.
    pub(super) fn was_refused(&self, key: &Key) -> bool {
        self.refused.contains(key)
    }

    /// True if an object is, or is not, there as it should be.
    pub(super) fn is_as_wanted(&self, key: &Key, seen: Option<&Seen>) -> bool {
        match (self.desired.get(key), seen) {
            (Some(wanted), Some(seen)) => seen.is(wanted),
            (None, None) => true,
            _ => false,
        }
    }

    /// Wants exactly these from now on, as a pass begins that ends with [`Self::end_pass`]. True if they are the same as before.
    pub(super) fn want_all(&mut self, desired: Objects) -> bool {
        let before = std::mem::replace(&mut self.desired, desired);
        let is_same = before == self.desired;
        // Not a set of all new keys: at the start that is as large as the desired state, and the memory would not come back.
        self.earlier = (!is_same).then_some(before);
        is_same
    }

    /// A pass has ended. If nothing was concluded, what is new is proven by nothing.
    pub(super) fn end_pass(&mut self) {
        if let Some(earlier) = self.earlier.take() {
            self.unproven.extend(self.desired.keys().filter(|key| !earlier.contains_key(key)));
        }
    }

    /// Wants these from now on as well.
    pub(super) fn want(&mut self, objects: Objects) {
        self.unproven.extend(objects.keys().filter(|key| !self.desired.contains_key(key)));
        self.desired.extend(objects);
    }

    /// Wants these no longer.
    pub(super) fn forget<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>) {
        for key in keys {
            self.desired.remove(key);
        }
    }

    /// Wants nothing any more.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.device);
    }

    /// Wants `objects` instead of what is wanted at `keys`. Returns what is believed of the kernel there: what was wanted so far,
    /// but for what deviated.
    pub(super) fn exchange(&mut self, keys: &BTreeSet<Key>, objects: Objects) -> Observed {
        let (mut believed, mut wanted) = (Observed::default(), BTreeSet::new());
        for key in keys {
            let deviated = self.deviations.remove(key).is_some();
            let Some(value) = self.desired.remove(key) else { continue };
            wanted.insert(*key);
            if !deviated {
                believed.ours.insert(*key, Seen::As(value));
            }
        }
        self.unproven.extend(objects.keys().filter(|key| !wanted.contains(key)));
        self.desired.extend(objects);
        believed
    }

    /// What to do about everything.
    pub(super) fn plan(&self, observed: &Observed) -> Plan {
        diff(observed, &self.desired, &|key| self.is_ours(key), self.device)
    }

    /// What to do about these; none if everything has to be looked at.
    pub(super) fn plan_keys(&self, observed: &Observed, keys: &BTreeSet<Key>) -> Option<Plan> {
        diff_keys(observed, &self.desired, keys, &|key| self.is_ours(key), self.device)
    }

    /// Somebody else's objects that are in no place of ours.
    pub(super) fn strangers(&self, observed: &Observed) -> BTreeSet<Key> {
        observed.foreign.iter().filter(|key| !self.is_ours(key)).copied().collect()
    }

    /// Everything was read, and `left` is what could not be put right; `failures` say why. The rest is ours. What was ours stays
    /// ours, however long somebody keeps it from us.
    pub(super) fn conclude(&mut self, left: &Plan, failures: &[Failure]) {
        let open = left.ops.iter().map(Op::key).chain(&left.conflicts);
        self.unproven = open.filter(|key| !self.is_ours(key)).copied().collect();
        self.earlier = None;
        self.deviations = deviations(left, failures);
        self.refused = left.ops.iter().map(|op| *op.key()).collect();
    }

    /// This is about to be done. Until it is read back, what it creates counts as deviating; returns that.
    pub(super) fn begin(&mut self, plan: &Plan) -> Vec<Key> {
        let new: Vec<Key> = plan.ops.iter().filter(|op| is_new(op)).map(|op| *op.key()).collect();
        self.deviations.extend(new.iter().map(|key| (*key, "was not read back yet".to_owned())));
        new
    }

    /// These were read back as they should be; `begun` counts as deviating no longer.
    pub(super) fn read_back(&mut self, keys: &BTreeSet<Key>, begun: &[Key]) {
        self.deviations.retain(|key, _| !begun.contains(key));
        self.unproven.retain(|key| !keys.contains(key));
    }

    /// Takes back that these deviate, for those that were read as they should be.
    pub(super) fn pardon(&mut self, observed: &Observed, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            if self.is_as_wanted(&key, observed.ours.get(&key)) && !observed.foreign.contains(&key) {
                self.deviations.remove(&key);
                self.unproven.remove(&key);
            }
        }
    }

    /// What is wanted at this place.
    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.desired.get(key)
    }
}

/// True for what creates an object.
const fn is_new(op: &Op) -> bool {
    matches!(op, Op::Put { old: None, .. })
}

/// What could not be put right, with the kernel's reason if it gave one.
fn deviations(left: &Plan, failures: &[Failure]) -> BTreeMap<Key, String> {
    let reason = |key: &Key| {
        let failure = failures.iter().find(|failure| failure.key == *key);
        let told = failure.map(|failure| failure.error.to_string());
        // The errors of most operations begin with their object, which is told anyway.
        let told = told.map(|text| text.strip_prefix(&format!("{key}: ")).map(str::to_owned).unwrap_or(text));
        told.unwrap_or_else(|| "is not as it should be".to_owned())
    };
    let conflict =
        "its place is held by an object that is not ours; remove that one, or move it to another metric or name";
    let ops = left.ops.iter().map(|op| (*op.key(), reason(op.key())));
    ops.chain(left.conflicts.iter().map(|key| (*key, conflict.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use weft_core::kernel::{Via, seen};

    use super::*;

    fn route(octet: u8) -> (Key, Value) {
        let to = format!("10.244.{octet}.0/24").parse().expect("a network");
        let value = weft_core::kernel::Route { via: Via::Unreachable, mtu: None, src: None };
        (Key::Route(to, 0), Value::Route(value))
    }

    fn holdings() -> Holdings {
        Holdings::new(LinkName::new("weft0").expect("a name"))
    }

    /// Somebody else's object at the place of the route to this network.
    fn taken(octet: u8) -> Observed {
        Observed { foreign: BTreeSet::from([route(octet).0]), ..Observed::default() }
    }

    #[test]
    fn what_was_never_read_back_is_not_ours_to_replace() {
        let mut holdings = holdings();
        holdings.want(Objects::from([route(1)]));
        let plan = holdings.plan(&taken(1));
        assert_eq!((plan.ops, plan.conflicts), (vec![], vec![route(1).0]));
        assert_eq!(holdings.strangers(&taken(1)).len(), 1);
    }

    #[test]
    fn what_was_read_back_stays_ours_however_long_somebody_keeps_it() {
        let mut holdings = holdings();
        let wanted = Objects::from([route(1)]);
        holdings.want_all(wanted.clone());
        let read = Observed { ours: seen(wanted.clone()), ..Observed::default() };
        holdings.conclude(&holdings.plan(&read), &[]);
        for _ in 0..2 {
            let plan = holdings.plan(&taken(1));
            assert!(matches!(&plan.ops[..], [Op::Put { replace: true, .. }]), "{plan:?}");
            holdings.conclude(&plan, &[]);
            assert_eq!(holdings.deviations().len(), 1);
            assert!(holdings.want_all(wanted.clone()), "the same is wanted");
        }
        // A change of what is wanted there changes nothing about whose it is.
        let keys = BTreeSet::from([route(1).0]);
        assert!(holdings.exchange(&keys, wanted).ours.is_empty(), "what deviated is not believed");
        assert!(holdings.is_ours(&route(1).0));
    }

    #[test]
    fn a_pass_that_concluded_nothing_proves_nothing() {
        let mut holdings = holdings();
        for _ in 0..2 {
            holdings.want_all(Objects::from([route(1)]));
            assert!(!holdings.is_ours(&route(1).0), "it is wanted since this pass");
            holdings.end_pass();
            assert!(!holdings.is_ours(&route(1).0), "the kernel was not read");
        }
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_ours() {
        let mut holdings = holdings();
        holdings.want_all(Objects::from([route(1), route(2)]));
        holdings.end_pass();
        holdings.read_back(&BTreeSet::from([route(1).0, route(2).0]), &[]);
        holdings.forget([&route(1).0]);
        assert!(!holdings.is_ours(&route(1).0) && holdings.is_ours(&route(2).0));
        holdings.want(Objects::from([route(1)]));
        assert!(!holdings.is_ours(&route(1).0), "it may be somebody else's by now");
    }

    #[test]
    fn what_is_created_deviates_until_it_was_read_back() {
        let mut holdings = holdings();
        holdings.want(Objects::from([route(1)]));
        let begun = holdings.begin(&holdings.plan(&Observed::default()));
        assert_eq!((holdings.held(), begun.len()), (0, 1));
        holdings.read_back(&BTreeSet::from([route(1).0]), &begun);
        assert_eq!(holdings.held(), 1);
    }
}
