//! The real kernel, over rtnetlink, nf_tables and /proc/sys/net.
//!
//! Owns the sockets and the table of links; the objects' own modules own how each is written and read. Must never act on
//! what it remembers of the kernel: link indexes are all it keeps, and those it forgets after any failure.

pub(crate) mod address;
mod apply;
pub(crate) mod connection;
mod fdb;
#[cfg(test)]
mod hostile;
mod keys;
pub(crate) mod link;
mod monitor;
pub(crate) mod neighbour;
mod nexthop;
mod read;
mod request;
pub(crate) mod route;
mod sysctl;
mod underlay;
pub(crate) mod wire;

use std::{collections::BTreeSet, path::Path};

use netlink_packet_route::AddressFamily;
use tokio::sync::mpsc;
use weft_core::{
    desired::Underlay,
    diff::Op,
    kernel::{Key, Observed},
    nft::CounterName,
    types::{Family, LinkName},
};

use self::{
    connection::{Batch, Connection},
    link::Links,
    monitor::{Echoes, Monitor},
    sysctl::Sysctls,
};
use super::{Event, Failure, Kernel, KernelError, Scope, UnderlayQuery, nft::Nft};

/// Events that may wait for the loop; what is beyond becomes one [`Event::Overflow`].
const EVENTS: usize = 4096;

/// The kernel of the network namespace in which it was opened.
pub struct Netlink {
    device: LinkName,
    connection: Connection,
    nft: Nft,
    sysctls: Sysctls,
    links: Links,
    batch: Batch,
    /// Keys whose creation the kernel refused because their place is taken: foreign, unless the next reading finds them ours.
    contested: BTreeSet<Key>,
    echoes: Option<Echoes>,
}

impl Netlink {
    /// Opens the sockets in the network namespace of the calling thread, inside a runtime. `device` is the name of our
    /// VXLAN device. Reading needs no privilege, changing CAP_NET_ADMIN.
    pub fn open(device: LinkName) -> Result<Self, KernelError> {
        Ok(Self {
            device,
            connection: Connection::open()?,
            nft: Nft::open()?,
            sysctls: Sysctls::default(),
            links: Links::default(),
            batch: Batch::default(),
            contested: BTreeSet::new(),
            echoes: None,
        })
    }

    /// Takes the network's sysctls from `root` instead of /proc/sys, which is read-only in a container.
    #[must_use]
    pub fn with_sysctls(self, root: &Path) -> Self {
        Self { sysctls: Sysctls::below(root), ..self }
    }
}

impl Kernel for Netlink {
    async fn read(&mut self, scope: Scope<'_>) -> Result<Observed, KernelError> {
        match scope {
            Scope::All { wanted } => self.read_all(wanted).await,
            Scope::Keys(keys) => self.read_keys(keys).await,
        }
    }

    async fn apply(&mut self, ops: &[Op]) -> Vec<Failure> {
        self.carry_out(ops).await
    }

    async fn underlay(&mut self, query: &UnderlayQuery) -> Result<Underlay, KernelError> {
        self.find_underlay(query).await
    }

    async fn counter(&mut self, name: CounterName) -> Result<u64, KernelError> {
        self.nft.counter(name).await
    }

    fn events(&mut self) -> Result<mpsc::Receiver<Event>, KernelError> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let monitor = Monitor::open(self.device, self.connection.port())?;
        self.echoes = Some(monitor.echoes());
        self.nft.events(sender.clone())?;
        tokio::spawn(monitor.run(sender));
        Ok(receiver)
    }
}

/// The packet crate's word for a family.
const fn family(of: Family) -> AddressFamily {
    match of {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
