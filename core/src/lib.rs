//! The pure heart of Weft.
//!
//! Owns the checked types, CIDR allocation, membership, the kernel's state as values, the desired state and the diff
//! between the two. Must never know a clock, a socket, a file, randomness, the environment or a logger: whatever those
//! say comes in as an argument, so that every decision Weft takes can be replayed in a test.

pub mod alloc;
pub mod desired;
pub mod diff;
pub mod encap;
pub mod kernel;
pub mod masquerade;
pub mod membership;
pub mod more;
pub mod nft;
pub mod settings;
pub mod standing;
pub mod types;
mod veth;
