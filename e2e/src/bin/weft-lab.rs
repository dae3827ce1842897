//! The lab for people: the demo, and a way into a lab that is kept.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft_e2e::command::run()
}
