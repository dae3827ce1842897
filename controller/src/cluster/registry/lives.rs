//! Lives of node names that ended, and the numbers of those that begin.
//!
//! Owns that a number never comes again: a life is numbered after the last one and not before the time at which it begins,
//! so that even a name which nobody remembers gets a higher one. Ended lives are remembered for as long as a certificate of
//! theirs could be shown, in case the clock was set back meanwhile. Must never be needed to refuse a certificate: that of a
//! name that is no member is refused anyway.

use super::Registry;
use crate::store::Write;

/// The number of a life that begins at `now_unix`, after `last`.
pub(in crate::cluster) fn next(last: u64, now_unix: i64) -> u64 {
    (last + 1).max(u64::try_from(now_unix).unwrap_or(0))
}

impl Registry {
    /// Forgets lives that ended more than `kept` seconds ago. Those of which nobody wrote down when they ended begin to count
    /// now.
    pub(in crate::cluster) fn forget_lives(&mut self, now_unix: i64, kept: i64) -> Vec<Write> {
        let mut writes = Vec::new();
        self.lives.retain(|name, life| {
            if life.ended_unix.is_none() {
                life.ended_unix = Some(now_unix);
                writes.push(Write::Life(life.clone()));
            }
            let counts = life.ended_unix.is_some_and(|ended| ended.saturating_add(kept) >= now_unix);
            if !counts {
                writes.push(Write::RemoveLife(name.clone()));
            }
            counts
        });
        writes
    }
}

#[cfg(test)]
mod tests {
    use weft_core::{
        alloc::Pool,
        types::{NodeName, Revision},
    };

    use super::*;
    use crate::cluster::admission::Admission;
    use crate::store::{Life, Stored};

    fn registry(lives: Vec<Life>) -> Registry {
        let pool = Pool::new("10.244.0.0/16".parse().expect("a CIDR"), 24).expect("a pool");
        let stored = Stored { lives, ..Stored::default() };
        Registry::new(stored, &[pool.into()], Admission::Tokens, |_| Revision::new(1, 0)).expect("no contradiction")
    }

    fn life(name: &str, ended_unix: Option<i64>) -> Life {
        Life { node: name.parse().expect("a name"), incarnation: 3, ended_unix }
    }

    #[test]
    fn ended_lives_are_remembered_for_as_long_as_their_certificates_and_no_longer() {
        let mut registry = registry(vec![life("old", Some(1000)), life("young", Some(1900)), life("of-0-1", None)]);
        let name = |text: &str| text.parse::<NodeName>().expect("a name");
        assert_eq!(registry.forget_lives(2000, 1000), [Write::Life(life("of-0-1", Some(2000)))]);
        let mut forgotten = registry.forget_lives(2901, 1000);
        forgotten.sort_by_key(|write| format!("{write:?}"));
        assert_eq!(forgotten, [Write::RemoveLife(name("old")), Write::RemoveLife(name("young"))]);
        assert_eq!(
            registry.lives.into_keys().collect::<Vec<_>>(),
            [name("of-0-1")],
            "each deleted name stays for ever"
        );
    }

    #[test]
    fn a_number_never_comes_again_also_where_the_last_is_forgotten_or_the_clock_was_set_back() {
        assert_eq!(next(0, 1_700_000_000), 1_700_000_000);
        assert_eq!(next(1_700_000_000, 1_700_000_000), 1_700_000_001);
        assert_eq!(next(1_700_000_009, 0), 1_700_000_010);
    }
}
