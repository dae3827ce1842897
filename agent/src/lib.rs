//! The agent of one node, as a library; the binaries are thin.

pub mod cni;
pub mod kernel;
pub mod pods;
pub mod preflight;
