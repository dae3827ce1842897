//! Pods of this node: who holds which address, durably.
//!
//! Owns the allocations on disk, and the pods' links once their pods are gone ([`Keeper`]). Must never program the host's side of a pod: that is the reconcile loop's, reached through
//! [`HostSide`]; the pod's own side is the plugin's.
//!
//! The way of an ADD: [`AddressBook::allocate`] asks the [`PodStore`], which answers only once the allocation is on disk;
//! the plugin wires the pod; [`AddressBook::attach`] answers only once the host's side was read back from the kernel.

mod address_book;
mod allocator;
mod disk;
mod journal;
mod keeper;
mod ledger;
mod mtu;
mod outside;
mod record;
mod store;
mod truth;
mod witness;

pub use address_book::{AddressBook, Allocation, HostSide, NodeState, PodError};
pub use allocator::{Exhausted, usable};
pub use disk::{DirDisk, Disk};
#[cfg(test)]
pub use disk::{Fault, MemoryDisk};
pub use keeper::{Keeper, Round};
pub(crate) use outside::left_behind;
pub use record::Record;
pub use store::{Opened, PodStore, StoreError};
pub use witness::CACHED_RESULTS;
pub(crate) use witness::delete_links;
