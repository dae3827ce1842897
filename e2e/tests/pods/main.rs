//! Pods on the lab's clusters, as container runtimes have them.
//!
//! What needs a real runtime, and root, is part of `./dev containerd`, which runs all that is ignored here; the rest is part of
//! `./dev test`.

mod cnitool;
mod containerd;
mod cuts;
mod life;
mod plugin;
mod rounds;
mod safety;
mod settled;
mod socket;
