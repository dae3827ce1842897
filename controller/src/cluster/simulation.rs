//! The protocol under simulation: the cluster's real code and model agents, through everything that can go wrong.
//!
//! Owns worlds that are made of one number. In each, the real state machine of the controller, its real fan-out, streams
//! and store records serve agents made of the real view, desired state and diff over kernels of maps. A seeded scheduler
//! is all there is of time, network and luck: messages are late, streams break half or whole, requests are lost or come
//! twice, agents are slow, restart, lose their disk, come back as who they were long ago or with another's address, programs
//! are upgraded and rolled back with their disks, the store refuses or fails before or after the write, disks stall on either
//! side, controllers stop at any point, and clocks jump. In most worlds one member was taken over and lies: about its address,
//! about its peers, about what it holds, slowly or fifty times a second. After every step the [`check`] module looks, and those
//! of one question each ([`bystanders`], [`pairs`], [`patience`], [`probes`]); in the end everything is healed, and everybody
//! must agree.
//!
//! It lives inside the crate because the state machine is private to it and is to stay so: nothing here, and no switch
//! that plants a bug, is in any program.
//!
//! To see a failing world again: `WEFT_SIM_SEED=17 cargo test -p weft-controller simulat -- --nocapture` runs that one
//! alone and prints its history. `WEFT_SIM_HISTORIES=10000` chooses how many are run.
//!
//! Must never read a clock, a random number or an environment variable outside of its tests' front.

mod agent;
mod answers;
mod bystanders;
mod chaos;
mod check;
mod client;
mod counts;
mod disk;
mod engine;
mod heal;
mod kernel;
mod lies;
mod link;
mod pairs;
mod patience;
mod probes;
mod pump;
mod random;
mod server;
mod time;
mod versions;
mod world;

#[cfg(test)]
mod tests;

use std::fmt;

/// A bug put in on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    /// None.
    Nothing,
    /// The store confirms before it has written, so that all is announced, and answered, too early.
    AnnounceBeforePersist,
    /// Agents take the chunks of a snapshot for the membership before its end has come.
    IncompleteSnapshot,
    /// Agents acknowledge when a change arrives, not when their kernel holds it.
    EarlyAcknowledgement,
    /// Agents that were upgraded take what version 0.1 kept on disk for all there is at that revision.
    PartForWhole,
    /// The controller takes every claim of an address as proven, and forgets who proved it before.
    UnprovenBeatsProven,
    /// The controller forgets whom nodes call their routers.
    ForgottenRouters,
    /// The controller takes a node's facts as often as they change.
    NoPace,
    /// The controller forgets facts that came too fast, or that the store did not take.
    ForgottenFacts,
    /// One accuser makes a node unreachable.
    AnyAccuser,
    /// The time in which the controller waits for its disk is counted as the agents', and what they said in it is not heard
    /// before they are judged.
    StallCounts,
    /// Agents' engines wait for their disk.
    EngineWaitsForDisk,
    /// Agents' kernels take every pod CIDR from any member.
    AnyInnerSource,
    /// Agents' kernels lack a pair of outer and inner source.
    MissingInnerSource,
}

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Checked<T = ()> = Result<T, Violation>;

/// Fails with a sentence where a condition does not hold.
macro_rules! hold {
    ($condition:expr, $($sentence:tt)+) => {
        if !$condition {
            return Err($crate::cluster::simulation::Violation(format!($($sentence)+)));
        }
    };
}
use hold;
