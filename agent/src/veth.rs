//! The veth pair of a pod: its names and marks, the namespace that the pod's end is in, and how both are read and made.
//!
//! Owns what plugin and agent both know of an attachment: the names and MAC addresses derived from it, a blocking netlink
//! client for threads inside a namespace, creating, configuring and deleting the pair, and the notes of releases that could
//! not be delivered. Must never decide an address, ask the agent, or know CNI: what fails here is a [`VethError`].

mod attachment;
mod client;
mod error;
pub(crate) mod messages;
mod netns;
mod pair;
mod released;

pub(crate) use attachment::is_identifier;
pub use attachment::{AttachmentKey, KeyError};
pub(crate) use client::{ENODEV, Netlink, NetlinkError};
pub(crate) use error::VethError;
pub(crate) use netns::{NSFS, Netns, NetnsError};
pub(crate) use pair::{Pair, gateway, is_ours, unplug};
pub use released::Released;
