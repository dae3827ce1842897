//! The CNI plugin; see [`weft_agent::cni`].

use std::process::ExitCode;

fn main() -> ExitCode {
    // Runtimes give no arguments; people ask for the version.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--version" || argument == "-V") {
        println!("weft-cni {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    weft_agent::cni::main()
}
