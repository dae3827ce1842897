//! The controller's store and its Nodes against a real API server with a real etcd, without a cluster around them.
//!
//! The two programs are those that `./dev cluster up` builds into its cache; without them the tests fail and say so.
//! Ignored by default, as they take seconds each: `cargo test -p weft-controller --test kubernetes -- --ignored`.

mod api;
mod contract;
mod cut;
mod fleet;
mod leaders;
mod lease;
mod leaving;
mod nodes;
mod objects;
mod replaced;
mod strange;
mod tokens;
