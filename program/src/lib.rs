//! What all of Weft's programs share with the people who run them: the log, configuration, errors as lines, completion scripts, manual pages.
//!
//! Owns their form. Must never know what a program does.

pub mod config;
pub mod error;
mod generate;
pub mod log;

pub use generate::Generate;
