//! Leading: which of several controllers acts, and what holds the others back.
//!
//! Owns the rules of the election, the fence in front of all that a leader does, and the gate in front of all that clients ask. The
//! edge is [`Lease`], the one record that all candidates share; `MemoryLease` is the fake that fails on demand, and every other one
//! passes the same contract test. Must never know who keeps that record, nor what a leader does with its time.

mod candidate;
mod clock;
#[cfg(test)]
#[path = "../tests/contracts/lease.rs"]
pub(crate) mod contract;
mod election;
mod fence;
mod fenced;
mod gate;
mod lease;
mod machine;
#[cfg(any(test, feature = "test-util"))]
mod memory;

pub use self::lease::{Bid, Claim, Lease, LeaseError, Seen};
#[cfg(any(test, feature = "test-util"))]
pub use self::memory::{LeaseTrouble, MemoryLease};

pub(crate) use self::{
    candidate::{Candidate, Failure, Term},
    election::Election,
    fence::Fence,
    fenced::Fenced,
    gate::{LeaderGate, Role, Standby},
};
