//! The Helm chart without a cluster: what it renders, what it refuses, and that it says what the programs understand.
//!
//! What needs helm is part of `./dev e2e`; the rest is part of `./dev test`.

mod documents;
mod helm;
mod refused;
mod rights;
mod understood;
mod written;
