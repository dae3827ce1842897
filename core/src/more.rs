//! What a later version says of a member or of the settings, kept as it came.
//!
//! Owns octets that this version may not understand, so that it can hash, keep and compare them all the same. Must never
//! be decoded and encoded again on the way: that would drop what is not known here.

use std::fmt;

/// An encoded message of the wire; empty where there is nothing more to say.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct More(Box<[u8]>);

impl More {
    /// These octets, as they were received.
    pub fn new(octets: impl Into<Box<[u8]>>) -> Self {
        Self(octets.into())
    }

    /// The octets as they were received.
    pub const fn octets(&self) -> &[u8] {
        &self.0
    }

    /// True where there is nothing more to say.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "More({} octets)", self.0.len())
    }
}
