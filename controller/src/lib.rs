//! Weft's controller: it gives every node its pod CIDRs and tells every node about every other.
//!
//! Owns the store, the certificate authority, the membership and the streams to the agents. Must never carry a packet
//! or touch a kernel: when it is gone, the data plane goes on.

mod clock;
mod cluster;
mod config;
mod descriptors;
mod fanout;
mod http;
mod init;
mod kubernetes;
pub mod leader;
mod metrics;
pub mod pki;
mod rpc;
mod run;
mod servers;
pub mod store;
mod tls;

pub use cluster::Refusal;
pub use config::{Config, Kubernetes, LeaseTimes, NodeCidrs, Options, StoreLocation};
pub use init::{InitOptions, OperatorOptions, init, issue_operator};
pub use kubernetes::{KubeLease, KubeStore, UninstallOptions, uninstall};
pub use run::{Running, run, start};

/// So that contract tests, which tests of the crate and programs of tests share, can name it alike.
#[cfg(test)]
extern crate self as weft_controller;
