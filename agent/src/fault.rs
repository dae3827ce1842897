//! Fault points: in debug builds a test can have agent or plugin killed at a named step, as by the kernel's OOM killer.

/// Names the step at which the process kills itself. Without effect in release builds.
const VARIABLE: &str = "WEFT_FAULT";

/// A step at which a test may want the end.
pub(crate) fn point(name: &str) {
    if cfg!(debug_assertions) && std::env::var(VARIABLE).is_ok_and(|wanted| wanted == name) {
        // SIGKILL, so that no destructor and no rollback runs.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
