//! The CNI plugin; see [`weft_agent::cni`].

use std::process::ExitCode;

fn main() -> ExitCode {
    weft_agent::cni::main()
}
