//! File descriptors.
//!
//! Owns the process's limit on open files: every agent takes one, and the usual soft limit of 1,024 is less than a
//! cluster. Must never fail a start: fewer connections are better than no controller.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything that is no connection of an agent: the store, listeners, the runtime, HTTP.
const OTHERS: usize = 128;

/// Raises the soft limit as far as the hard one allows, and says how many of the `wanted` connections fit. With more
/// accepted than descriptors, accepting would fail again and again instead of leaving the rest in the backlog.
pub(crate) fn make_room(wanted: usize) -> usize {
    let present = getrlimit(Resource::Nofile);
    let enough = u64::try_from(wanted + OTHERS).unwrap_or(u64::MAX);
    let hard = present.maximum.unwrap_or(u64::MAX);
    let soft = present.current.unwrap_or(u64::MAX);
    let target = soft.max(enough.min(hard));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(target), maximum: present.maximum });
    let limit = if raised.is_ok() { target } else { soft };
    let fit = wanted.min(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OTHERS).max(1));
    if fit < wanted {
        tracing::info!(
            limit,
            connections = fit,
            "the limit on open files leaves room for fewer connections than {wanted}: raise it with LimitNOFILE= or \
             ulimit -n where the cluster has more nodes"
        );
    }
    fit
}
