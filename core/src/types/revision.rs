//! Revisions of the membership.

use std::fmt;

/// A point in the history of the membership. The epoch is the leader's term: it never repeats and never falls. The
/// sequence counts changes inside a term.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The leader's term.
    pub epoch: u64,
    /// The change inside the term.
    pub sequence: u64,
}

impl Revision {
    /// The revision of `sequence` in `epoch`.
    pub const fn new(epoch: u64, sequence: u64) -> Self {
        Self { epoch, sequence }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}
