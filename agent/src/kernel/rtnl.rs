//! Links, addresses, forwarding entries, neighbours, nexthops and routes, over rtnetlink(7).
//!
//! Owns the socket and the table of links; the objects' own modules own how each is written and read. Must never act on
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
mod underlay;
pub(crate) mod wire;

use std::collections::BTreeSet;

use netlink_packet_route::AddressFamily;
use tokio::sync::mpsc;
use weft_core::{
    kernel::Key,
    types::{Family, LinkName},
};

pub(super) use self::request::link_went;
use self::{
    connection::{Batch, Connection},
    link::Links,
    monitor::{Echoes, Monitor},
};
use super::{Event, KernelError};

/// What rtnetlink holds, in the network namespace in which it was opened.
pub(super) struct Rtnl {
    device: LinkName,
    connection: Connection,
    links: Links,
    batch: Batch,
    /// Keys whose creation the kernel refused because their place is taken: foreign, unless the next reading finds them ours.
    contested: BTreeSet<Key>,
    echoes: Option<Echoes>,
}

impl Rtnl {
    /// Opens a socket in the network namespace of the calling thread, inside a runtime. `device` is the name of our tunnel device.
    pub(super) fn open(device: LinkName) -> Result<Self, KernelError> {
        Ok(Self {
            device,
            connection: Connection::open()?,
            links: Links::default(),
            batch: Batch::default(),
            contested: BTreeSet::new(),
            echoes: None,
        })
    }

    /// Reports what others change, from now on, into `sender`, on the current tokio runtime. Ends when the receiver is gone.
    pub(super) fn events(&mut self, sender: mpsc::Sender<Event>) -> Result<(), KernelError> {
        let monitor = Monitor::open(self.device, self.connection.port())?;
        self.echoes = Some(monitor.echoes());
        tokio::spawn(monitor.run(sender));
        Ok(())
    }
}

/// The packet crate's word for a family.
const fn family(of: Family) -> AddressFamily {
    match of {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
