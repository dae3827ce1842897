//! The store: what must outlive the controller.
//!
//! Owns the records and the edge that every store implements; [`RedbStore`] keeps them in one file, `MemoryStore` is
//! the fake that fails on demand, and both pass the same contract test. Nothing above [`Store`] may assume which one it
//! talks to, and a store must never decide anything: it keeps what it is told, all of a batch or nothing.

mod codec;
mod marker;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod records;
mod redb;

use futures::future::BoxFuture;

#[cfg(any(test, feature = "test-util"))]
pub use self::memory::{Failure, MemoryStore};
pub use self::{
    records::{Binding, Held, Life, NodeFacts, NodeRecord, Quarantined, TokenId, TokenRecord},
    redb::RedbStore,
};
use weft_core::{
    settings::Settings,
    types::{NodeName, PodCidr},
};

/// Everything a store holds, as read in one consistent view.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// The last term that was taken; 0 where there was none.
    pub epoch: u64,
    /// The cluster's settings as last announced.
    pub settings: Option<Settings>,
    /// The nodes, ascending by name.
    pub nodes: Vec<NodeRecord>,
    /// Join tokens, ascending by id.
    pub tokens: Vec<TokenRecord>,
    /// Pod CIDRs of departed nodes that may not be handed out yet.
    pub quarantine: Vec<Quarantined>,
    /// Names that were deleted, with the life that ended.
    pub lives: Vec<Life>,
    /// Pod CIDRs claimed for nodes that are not among [`Self::nodes`], left by a write that was cut short.
    pub held: Vec<Held>,
    /// Nodes whose records cannot be read. They are members all the same: what is known of them from before counts.
    pub unreadable: Vec<NodeName>,
}

/// One change of the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// The term that begins.
    Epoch(u64),
    /// The cluster's settings.
    Settings(Settings),
    /// Adds or replaces a node.
    Node(NodeRecord),
    /// Removes a node.
    RemoveNode(NodeName),
    /// Adds or replaces a join token.
    Token(TokenRecord),
    /// Removes a join token.
    RemoveToken(TokenId),
    /// Puts a pod CIDR into quarantine.
    Quarantine(Quarantined),
    /// Lets a pod CIDR out of quarantine.
    RemoveQuarantine(PodCidr),
    /// Remembers a life that ended.
    Life(Life),
    /// Forgets it, because a newer life began.
    RemoveLife(NodeName),
}

impl Write {
    /// The pod CIDR that it lets out of quarantine.
    pub(crate) const fn freed(&self) -> Option<PodCidr> {
        match self {
            Self::RemoveQuarantine(cidr) => Some(*cidr),
            _ => None,
        }
    }
}

/// What a store of some kind says of itself, in a whole sentence.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else writes to it.
    #[error("store {store} is in use by another controller: stop that one, or give this one a store of its own")]
    Locked {
        /// Which store.
        store: String,
    },
    /// Written by a later version.
    #[error(
        "store {store} has schema version {found}, and this weft-controller knows versions up to {known}: run the version that wrote it, or restore an older backup; the store was left as it is"
    )]
    Future {
        /// Which store.
        store: String,
        /// Its version.
        found: u32,
        /// The latest this program can read.
        known: u32,
    },
    /// Not what was written.
    #[error("store {store} is damaged: {detail}; it was left as it is: restore it from a backup before starting again")]
    Damaged {
        /// Which store.
        store: String,
        /// What was found.
        detail: String,
    },
    /// Gone, though it was made.
    #[error(
        "store {store} is gone, though {marker} says that it was made: without it the nodes of this cluster would be refused, and their pod CIDRs given to others; restore it from a backup, or, to begin an empty cluster on purpose, remove {marker}"
    )]
    Lost {
        /// Which store.
        store: String,
        /// What remembers it.
        marker: String,
    },
    /// A batch that was not, or not provably, written.
    #[error("store {store} did not confirm a write: {detail}; check the disk's space and health")]
    Write {
        /// Which store.
        store: String,
        /// What it said.
        detail: String,
    },
    /// Whoever keeps it did not do what was asked, or did not say so; the cause says what to do.
    #[error(transparent)]
    Unconfirmed(Cause),
    /// Another controller may lead by now.
    #[error("this controller's time as the leader is over, and nothing was read or written")]
    Over,
    /// Somebody else wrote too: another leader, or a hand.
    #[error(transparent)]
    Conflict(Cause),
    /// It was never made.
    #[error(transparent)]
    Absent(Cause),
    /// The operating system refused.
    #[error("cannot {operation} store {store}; check who owns its directory, and the disk's space")]
    Io {
        /// Which store.
        store: String,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The edge to durable state. One controller writes to a store at a time; implementations see to that.
pub trait Store: Send + Sync + 'static {
    /// Reads everything, in one consistent view.
    fn load(&self) -> BoxFuture<'_, Result<Stored, StoreError>>;

    /// Writes a batch, of which the last word about a record counts, and answers once it would survive a loss of power.
    ///
    /// After an error it is unknown what was written: load again before acting again. A store with transactions has
    /// written all or nothing then. One without them may have written a part, and orders its writes such that each part
    /// is safe: what the next [`Self::load`] answers gives no pod CIDR to two nodes, frees none that somebody may still
    /// route to, and loses no node; a batch that was cut short looks as if it had not begun, but for CIDRs that are
    /// [held](Stored::held) or in quarantine.
    fn commit(&self, batch: Vec<Write>) -> BoxFuture<'_, Result<(), StoreError>>;
}
