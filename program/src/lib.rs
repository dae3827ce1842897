//! What all of Weft's programs share with the people who run them: the log, completion scripts, manual pages.
//!
//! Owns their form. Must never know what a program does.

mod generate;
pub mod log;

pub use generate::Generate;
