//! The agent's side of the controller: identity, and one stream that is kept open.
//!
//! Owns connecting, joining, renewing, and the translation between the stream and typed updates. Must never touch the
//! kernel or decide what a membership means: that is the engine's.

mod alert;
mod book;
mod credentials;
mod doors;
mod expiry;
mod identity;
mod join;
mod login;
mod reporter;
mod source;
mod stream;
mod tls;
mod token;

use std::net::IpAddr;

pub(crate) use book::note_of;
pub use credentials::Credentials;
pub use expiry::Deadlines;
pub(crate) use expiry::tell as tell_expiry;
pub use identity::Identity;
pub use stream::{Client, Links};
pub use token::JoinToken;
use weft_core::{
    membership::{Delta, Digests, Snapshot, Told},
    standing::Health,
    types::Revision,
};

/// What the controller said, typed and checked.
#[derive(Debug)]
pub enum Update {
    /// The whole membership, complete, with the digests that the controller computed.
    Snapshot(Snapshot, Told),
    /// Changes.
    Delta(Delta),
    /// What the Hello told is current.
    Current {
        /// At this revision.
        revision: Revision,
        /// What the Hello told.
        found: Digests,
        /// The controller knows what later versions say; version 0.1 does not, and then there is nothing of it.
        knows_more: bool,
    },
}

/// What the controller wants of this node as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Be a member.
    #[default]
    Serve,
    /// Remove everything of Weft's.
    CleanUp,
    /// Be a member again, after all.
    CalledOff,
}

/// What the engine holds, for the Hello of the next stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// The revision, once there is one.
    pub revision: Option<Revision>,
    /// The digests over it.
    pub digests: Option<Digests>,
    /// Raised when the engine could not use an update: the stream starts anew.
    pub resyncs: u64,
}

/// What the agent says of itself on the stream; sent whenever it changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// The newest revision that the kernel was read back to hold.
    pub applied: Option<Revision>,
    /// Health of this node and of its peers.
    pub health: Health,
}

/// How the connection stands, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// A stream is open and was answered.
    pub connected: bool,
    /// The controller in use, or tried last.
    pub controller: String,
    /// Its address, once resolved.
    pub address: Option<IpAddr>,
    /// Why it is not connected.
    pub message: String,
}
