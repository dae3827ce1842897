//! What must hold for every input. Failures that proptest finds are kept in `proptest-regressions`, which is in git.

mod alloc;
mod diff;
mod incremental;
mod membership;
mod model;
mod strategies;
