//! The edge to one node's kernel.
//!
//! Owns reading what is there and carrying out what was decided; must never decide. The trait has two
//! implementations, the real one over netlink and a fake one that fails on demand, and one contract test runs
//! against both.

#[cfg(any(test, feature = "test-util"))]
pub mod fake;
mod linux;
pub mod nft;
pub(crate) mod rtnl;
mod sysctl;

use std::{future::Future, net::IpAddr};

pub use linux::Linux;
use tokio::sync::mpsc;
use weft_core::{
    desired::Underlay,
    diff::Op,
    kernel::{Key, Objects, Observed, Seen},
    nft::CounterName,
    types::{Family, LinkName, PerFamily, UnderlayAddress},
};

/// What to read.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Everything of ours. Of sysctls and pod links only those that `wanted` names are read.
    All {
        /// The desired state, for its sysctls and pod links.
        wanted: &'a Objects,
    },
    /// These objects only, each by a request of its own: cheap while they are few.
    Keys(&'a [Key]),
}

/// How to find the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderlayQuery {
    /// The link, where the operator named it.
    pub interface: Option<LinkName>,
    /// The addresses by which the cluster knows this node, the first before the others; none where nobody told. The first
    /// that is here names the link, and no others are announced.
    pub addresses: Vec<IpAddr>,
    /// The underlay so far. Its link and addresses stay for as long as they are there, whatever routes say by now.
    pub in_use: Option<InUse>,
    /// The controller's address: the route to it names the link, unless it is local; then the default route does.
    pub controller: Option<IpAddr>,
    /// The family of outer packets, whose address must be there.
    pub outer: Family,
}

/// An underlay that was found before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    /// Its link.
    pub link: LinkName,
    /// The addresses that were announced.
    pub addresses: PerFamily<Option<UnderlayAddress>>,
}

/// Why the kernel could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel refused; the text names the object, and says what the kernel said (extended ack).
    #[error("{object}: {message} (errno {errno})")]
    Refused {
        /// The object concerned.
        object: String,
        /// What the kernel said.
        message: String,
        /// The error number, positive.
        errno: i32,
    },
    /// A dump was interrupted time and again, or an ack did not come: nothing is known.
    #[error("the kernel's answer about {object} was incomplete: {message}")]
    Incomplete {
        /// What was asked.
        object: String,
        /// What was missing.
        message: String,
    },
    /// The socket or a file under /proc failed.
    #[error("{object}: {source}")]
    Io {
        /// What was opened, read or written.
        object: String,
        /// The cause.
        source: std::io::Error,
    },
    /// No link or address can carry outer packets.
    #[error("no underlay: {0}")]
    NoUnderlay(String),
}

impl KernelError {
    /// True if the kernel was not heard at all, for want of descriptors or memory, or not to the end: nothing is known of the
    /// objects, and most likely the next attempt succeeds.
    pub fn is_no_answer(&self) -> bool {
        use rustix::io::Errno;
        let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::INTR, Errno::AGAIN];
        match self {
            Self::Incomplete { .. } => true,
            Self::Io { source, .. } => lacks.iter().any(|errno| source.raw_os_error() == Some(errno.raw_os_error())),
            Self::Refused { .. } | Self::NoUnderlay(_) => false,
        }
    }
}

/// An operation that failed.
#[derive(Debug)]
pub struct Failure {
    /// Its object.
    pub key: Key,
    /// Why.
    pub error: KernelError,
}

/// Something changed; says "look again" and never what to apply.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An object that is ours, or in a place of ours, is now this (none: gone). Whoever holds the same already need
    /// not look.
    Object(Key, Option<Seen>),
    /// An object in our range changed in a way that only a look can tell (a link, a table, a sysctl).
    Look,
    /// A link of a pod came, went or changed, or a setting of it; nothing else is concerned.
    PodLink(LinkName),
    /// Underlay links, their addresses or the routes that name them may have changed.
    Underlay,
    /// Events were lost (ENOBUFS).
    Overflow,
}

/// One node's kernel. Not `Send`: the one reconcile loop owns it.
pub trait Kernel {
    /// Reads; the answer is whole or an error, never a part.
    fn read(&mut self, scope: Scope<'_>) -> impl Future<Output = Result<Observed, KernelError>>;

    /// Carries out `ops` in their order, batched, each acknowledged. Every operation is tried; failures are returned,
    /// and nothing of them is to be believed before the next reading. All nftables operations form one transaction.
    fn apply(&mut self, ops: &[Op]) -> impl Future<Output = Vec<Failure>>;

    /// Finds the underlay.
    fn underlay(&mut self, query: &UnderlayQuery) -> impl Future<Output = Result<Underlay, KernelError>>;

    /// Packets dropped so far, by counter.
    fn counter(&mut self, name: CounterName) -> impl Future<Output = Result<u64, KernelError>>;

    /// Starts to report events, from before the next reading on.
    fn events(&mut self) -> Result<mpsc::Receiver<Event>, KernelError>;
}
