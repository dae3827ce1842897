//! Checks of the host before, and while, the agent programs it.
//!
//! Finds what would keep pods from talking although every object of ours is in place, and says what to do about it. Must
//! never change the host: what is tried is tried in a network namespace of its own.

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something works less well, or not always.
    Warning,
    /// Pods cannot talk before this is put right.
    Error,
}

/// One problem of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which kind of problem, one word in CamelCase.
    pub code: &'static str,
    /// The object, its value and the remedy.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
