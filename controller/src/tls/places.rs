//! Places for connections, by who has them.
//!
//! Owns who is let in, at whose cost, and who has to go. Nobody can take the others' places: a node has a few, an operator some
//! more, all strangers together a share; and where everything is taken the largest crowd makes room for an operator. Must never do
//! input or output, or look at a clock: it is told what time it is, and says whose connection ends.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::signs::Signs;
use crate::pki::Principal;

/// Connections of a node: its stream, the one that replaces it, and a short one for each.
pub(super) const OF_NODE: usize = 4;
/// Connections of an operator: people who watch, and tools.
pub(super) const OF_OPERATOR: usize = 64;
/// Nobody is displaced by strangers earlier: joining takes a moment.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// Who is a member no more, or has a certificate no more, is told so on its stream; then its connection ends.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);

/// Whose place it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    /// Of a certificate that counts.
    Known(Principal),
    /// Of anybody else.
    Stranger,
}

/// What the places allow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Connections in all.
    pub(super) all: usize,
    /// Of these of strangers.
    pub(super) strangers: usize,
    /// How long one may take until its first request.
    pub(super) first_request: Duration,
    /// How long a stranger may stay.
    pub(super) stay: Duration,
}

/// Why a connection ends, in a word.
pub(super) type Why = &'static str;

/// The answer to whoever wants a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// It has one, which `out` has to leave.
    In { key: u64, out: Option<T> },
    /// There is none at present.
    Full,
    /// It has as many as it may.
    Enough,
}

#[derive(Debug)]
struct Place<T> {
    who: Who,
    since: Instant,
    signs: Arc<Signs>,
    /// Since when its certificate does not count any more.
    unwelcome: Option<Instant>,
    held: T,
}

/// All places; `T` is what ends the connection that has one.
#[derive(Debug)]
pub(super) struct Places<T> {
    bounds: Bounds,
    next: u64,
    taken: HashMap<u64, Place<T>>,
    /// By who has them, oldest first.
    of: HashMap<Who, BTreeSet<u64>>,
    /// How many that are and the youngest of them: the largest crowd comes last.
    crowds: BTreeSet<(usize, u64, Who)>,
}

impl<T> Places<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, next: 0, taken: HashMap::new(), of: HashMap::new(), crowds: BTreeSet::new() }
    }

    /// Gives a place, where there is one to have. The one who has to make room has left its own by then.
    pub(super) fn enter(&mut self, who: &Who, signs: &Arc<Signs>, held: T, now: Instant) -> Answer<T> {
        let own = self.of.get(who).map_or(0, BTreeSet::len);
        let is_full = self.taken.len() >= self.bounds.all;
        let out = match who {
            Who::Known(Principal::Operator(_)) if own >= OF_OPERATOR => return Answer::Enough,
            Who::Known(Principal::Node { .. }) if own >= OF_NODE => self.least_of_node(who),
            Who::Stranger if own >= self.bounds.strangers => self.tired_stranger(now),
            Who::Known(Principal::Operator(_)) if is_full => self.youngest_of_most(1),
            Who::Known(Principal::Node { .. }) if is_full && own == 0 => self.youngest_of_most(2),
            _ if is_full => None,
            _ => return Answer::In { key: self.take(who, signs, held, now), out: None },
        };
        let Some(out) = out.and_then(|key| self.leave(key)) else { return Answer::Full };
        Answer::In { key: self.take(who, signs, held, now), out: Some(out) }
    }

    /// The oldest without the node's stream; the newest wins.
    fn least_of_node(&self, who: &Who) -> Option<u64> {
        let own = self.of.get(who)?;
        let carries = |key: &&u64| self.taken.get(*key).is_some_and(|place| place.signs.carries());
        own.iter().find(|key| !carries(key)).or_else(|| own.first()).copied()
    }

    fn tired_stranger(&self, now: Instant) -> Option<u64> {
        let oldest = *self.of.get(&Who::Stranger)?.first()?;
        let since = self.taken.get(&oldest)?.since;
        (now.duration_since(since) >= PATIENCE).then_some(oldest)
    }

    /// The youngest of whoever has most, where those are as many as `crowd`.
    fn youngest_of_most(&self, crowd: usize) -> Option<u64> {
        self.crowds.last().filter(|(count, ..)| *count >= crowd).map(|(_, youngest, _)| *youngest)
    }

    fn take(&mut self, who: &Who, signs: &Arc<Signs>, held: T, now: Instant) -> u64 {
        let key = self.next;
        self.next += 1;
        let place = Place { who: who.clone(), since: now, signs: Arc::clone(signs), unwelcome: None, held };
        self.taken.insert(key, place);
        self.count(who, |own| own.insert(key));
        key
    }

    /// A connection is over, or has to be; none where it had left its place before.
    pub(super) fn leave(&mut self, key: u64) -> Option<T> {
        let place = self.taken.remove(&key)?;
        self.count(&place.who, |own| own.remove(&key));
        Some(place.held)
    }

    fn count(&mut self, who: &Who, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let crowd = |own: &BTreeSet<u64>| own.last().map(|youngest| (own.len(), *youngest, who.clone()));
        let own = self.of.entry(who.clone()).or_default();
        if let Some(before) = crowd(own) {
            self.crowds.remove(&before);
        }
        let _is_other = change(own);
        match crowd(own) {
            Some(now) => {
                self.crowds.insert(now);
            }
            None => {
                self.of.remove(who);
            }
        }
    }

    /// Takes the places of those who have stayed too long; `is_welcome` says whose certificate counts at present.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        now_unix: i64,
        is_welcome: impl Fn(&Principal) -> bool,
    ) -> Vec<(T, Why)> {
        let bounds = self.bounds;
        let over =
            |(key, place): (&u64, &mut Place<T>)| Some((*key, place.is_over(&bounds, now, now_unix, &is_welcome)?));
        let over: Vec<(u64, Why)> = self.taken.iter_mut().filter_map(over).collect();
        over.into_iter().filter_map(|(key, why)| Some((self.leave(key)?, why))).collect()
    }
}

impl<T> Place<T> {
    fn is_over(
        &mut self,
        bounds: &Bounds,
        now: Instant,
        now_unix: i64,
        is_welcome: impl Fn(&Principal) -> bool,
    ) -> Option<Why> {
        let age = now.duration_since(self.since);
        let over = match &self.who {
            _ if !self.signs.has_asked() && age >= bounds.first_request => return Some("silent"),
            Who::Stranger => return (age >= bounds.stay).then_some("stranger"),
            Who::Known(principal) if !is_welcome(principal) => "not_member",
            Who::Known(_) if self.signs.has_ended(now_unix) => "certificate_ended",
            Who::Known(_) => {
                self.unwelcome = None;
                return None;
            }
        };
        let since = *self.unwelcome.get_or_insert(now);
        (now.duration_since(since) >= LAST_WORDS).then_some(over)
    }
}

#[cfg(test)]
mod tests;
