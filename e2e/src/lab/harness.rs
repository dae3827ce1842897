//! Tests that run in a lab.
//!
//! Owns the way of a test into its sandbox and of its failure out of it. A test that cannot have its lab fails; it
//! never skips. libtest bounds how many run at once by the number of cores.

use std::{
    env,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{print_logs, sandbox, wait::limit};

/// No test may take longer; a busy machine of two cores needs a fraction of it.
const LONGEST: Duration = Duration::from_secs(300);

/// Defines a test whose body, an `async` closure that returns `anyhow::Result<()>`, runs in a sandbox of its own.
#[macro_export]
macro_rules! lab_test {
    ($(#[$attribute:meta])* $name:ident, $body:expr) => {
        $(#[$attribute])*
        #[test]
        fn $name() {
            $crate::lab::harness::test(concat!(module_path!(), "::", stringify!($name)), $body);
        }
    };
}

/// Runs `body` in a sandbox: outside by starting this very test there, inside by running it. `path` is the test's
/// path with its crate's name, as `module_path!` has it.
///
/// # Panics
/// Where the test fails or cannot be run.
pub fn test(path: &str, body: impl AsyncFnOnce() -> Result<()>) {
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    if sandbox::is_inside() {
        inside(name, body);
    } else if let Err(error) = outside(name) {
        panic!("{error:#}");
    }
}

/// Printed by a test that ran to its end, so that a name that matches no test is not taken for success.
fn passed(name: &str) -> String {
    format!("weft-lab: {name} ran to its end")
}

fn outside(name: &str) -> Result<()> {
    sandbox::check()?;
    let own = env::current_exe().context("cannot tell which program is running")?;
    let (mut reader, writer) = std::io::pipe()?;
    let mut command = sandbox::command(own, ["--exact", name, "--nocapture", "--test-threads=1", "--include-ignored"]);
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().context("cannot start the sandbox")?;
    // The command holds the pipe's other end; without it the reader sees the child's end.
    drop(command);
    let mut output = Vec::new();
    reader.read_to_end(&mut output)?;
    let status = child.wait()?;
    let output = String::from_utf8_lossy(&output);
    println!("{output}");
    if !status.success() {
        bail!("{name} failed in its lab ({status}); its output is above");
    }
    if !output.contains(&passed(name)) {
        bail!("{name} was not run in its lab: is it named like this in its crate?");
    }
    Ok(())
}

fn inside(name: &str, body: impl AsyncFnOnce() -> Result<()>) {
    let (done, wait) = mpsc::channel::<()>();
    thread::spawn(move || {
        let longest = limit(LONGEST);
        if wait.recv_timeout(longest) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("the test did not end within {longest:?}");
            print_logs();
            std::process::exit(124);
        }
    });
    let ran = catch_unwind(AssertUnwindSafe(|| run(body)));
    match ran {
        Ok(Ok(())) => println!("{}", passed(name)),
        Ok(Err(error)) => {
            print_logs();
            panic!("{error:#}");
        }
        Err(panic) => {
            print_logs();
            resume_unwind(panic);
        }
    }
    drop(done);
}

/// Runs `body` on a runtime in this sandbox.
///
/// # Errors
/// Those of `body`, and where the sandbox cannot be prepared.
pub fn run<T>(body: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    sandbox::prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(body())
}
