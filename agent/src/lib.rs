//! The agent of one node, as a library; the binaries are thin.
//!
//! One loop owns the kernel ([`engine`]); everything else talks to it through channels: the controller's stream
//! ([`controller`]), probes ([`probe`]), pods ([`pods`]) and the local API ([`api`]).

pub mod api;
pub mod clean_up;
pub mod cli;
pub mod cni;
pub mod config;
pub mod controller;
pub mod disk_trouble;
mod durable;
pub mod engine;
mod fault;
mod host_check;
mod installer;
pub mod kept_underlay;
pub mod kernel;
pub mod last_good;
mod masquerade;
pub mod metrics;
mod notify;
pub mod pods;
pub mod preflight;
pub mod probe;
pub mod run;
mod standing;
pub mod veth;
