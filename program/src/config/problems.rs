//! All problems of a configuration at once.
//!
//! Owns how they are said. Must never end at the first.

use std::{fmt, str::FromStr};

/// Collects problems, so that all are told.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

/// What is wrong with a configuration: one sentence each, with the option's name in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub Vec<String>);

impl Problems {
    /// Adds a sentence.
    pub fn tell(&mut self, problem: String) {
        self.0.push(problem);
    }

    /// Says of an option what is wrong, and what to do.
    pub fn say(&mut self, option: &str, problem: impl fmt::Display) {
        self.tell(format!("{option}: {problem}"));
    }

    /// The value of an option, if it could be read.
    pub fn check<T, E: fmt::Display>(&mut self, option: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.say(option, error)).ok()
    }

    /// The value of an option, or the default if it is absent or wrong.
    pub fn value<T, E: fmt::Display>(
        &mut self,
        option: &str,
        text: Option<&str>,
        default: T,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> T {
        text.and_then(|text| self.check(option, read(text))).unwrap_or(default)
    }

    /// True if none was told.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Problems> for Invalid {
    fn from(problems: Problems) -> Self {
        Self(problems.0)
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} problem{plural}:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Invalid {}

/// A value of one of the simple kinds; `remedy` says what to give instead of what cannot be read.
///
/// # Errors
/// A sentence with text and remedy.
pub fn parse<T: FromStr>(text: &str, remedy: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} cannot be read: {remedy}"))
}
