//! The CNI plugin `weft-cni`, and its installation by the agent.
//!
//! Owns the edge to container runtimes (environment, standard input, result and error JSON of the CNI specification
//! 0.3.1 to 1.1.0) and the order of an attachment's steps; the pair itself is [`veth`](crate::veth)'s. Must never decide an address, and must never keep
//! state: what an ADD made is found again by names derived from container id and interface, or asked of the agent.
//!
//! An ADD: the agent allocates (durably); the veth pair is created with the pod's end directly in the pod's namespace;
//! the pod's end is configured in there with one batch of netlink messages; the agent programs the host's side and
//! reads it back; only then the runtime hears of success. Killed at any step, the next ADD or DEL of the same
//! attachment finds what is there. ADDs and DELs of one attachment at the same time take turns, so that none takes away what
//! another has just made.

mod add;
mod agent;
mod check;
mod config;
mod del;
mod env;
mod error;
mod gc;
pub mod install;
mod plan;
mod result;
mod run;
mod turn;
mod version;

pub use error::{CniError, Code};
pub use run::{Outcome, main, run};
pub use version::Version;
