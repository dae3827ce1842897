//! Where the demo's words go.
//!
//! Owns the choice of stream: where standard output is for JSON, people read standard error.

use std::io::{Write, stderr, stdout};

/// The place for progress.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    json: bool,
}

impl Screen {
    /// With `json`, standard output stays free.
    pub const fn new(json: bool) -> Self {
        Self { json }
    }

    /// A headline.
    pub fn section(&self, title: &str) {
        self.line(&format!("\n{title}"));
    }

    /// A line.
    pub fn line(&self, text: &str) {
        // Nobody reads any more: the show goes on for its exit code.
        let _ = if self.json { writeln!(stderr(), "{text}") } else { writeln!(stdout(), "{text}") };
    }

    /// Several lines, indented.
    pub fn text(&self, text: &str) {
        text.lines().for_each(|line| self.line(&format!("  {line}")));
    }
}
