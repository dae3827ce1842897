//! What changes in the kernel, as events.
//!
//! Owns a socket that only listens, and its own table of links. Must never carry a change to be applied, and never choke on
//! a message it does not know: what cannot be told from the message is [`Event::Look`], what cannot concern us is nothing.
//!
//! What this agent itself does comes back too. The kernel marks most of it with the port of the socket that asked, and it
//! is dropped here; FDB changes carry no such mark and are told by what was sent ([`Echoes`]).

mod classify;
mod echoes;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

pub(super) use echoes::Echoes;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use rustix::io::Errno;
use tokio::sync::mpsc::{self, error::TrySendError};
use weft_core::types::LinkName;

use super::{
    connection::{Connection, Part, socket},
    link::{self, Link, Links},
    wire::frames,
};
use crate::kernel::{Event, KernelError};

/// Multicast groups (`enum rtnetlink_groups`): link, neighbours, IPv4 addresses and routes, IPv6 addresses and routes, IPv4
/// and IPv6 settings of links (netconf), nexthops.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 9, 11, 24, 25, 32];
/// Datagrams of notifications are one message each.
const DATAGRAM: usize = 32 << 10;

/// The listener.
pub(super) struct Monitor {
    socket: TokioSocket,
    device: LinkName,
    own_port: Arc<AtomicU32>,
    links: Links,
    echoes: Echoes,
}

impl Monitor {
    /// Starts to listen, so that nothing after this is missed. `own_port` marks what the agent itself caused.
    pub(super) fn open(device: LinkName, own_port: Arc<AtomicU32>) -> Result<Self, KernelError> {
        Ok(Self { socket: listen()?, device, own_port, links: Links::default(), echoes: Echoes::default() })
    }

    /// Where to tell it of changes that come back unmarked.
    pub(super) fn echoes(&self) -> Echoes {
        self.echoes.clone()
    }

    /// Reports events until nobody listens any more.
    pub(super) async fn run(mut self, sender: mpsc::Sender<Event>) {
        let mut received = Vec::with_capacity(DATAGRAM);
        self.start_over(&sender, false).await;
        loop {
            received.clear();
            let outcome = tokio::select! {
                outcome = self.socket.recv(&mut received) => outcome,
                () = sender.closed() => return,
            };
            match outcome {
                Ok(()) => self.report(&received, &sender).await,
                Err(error) if is_overflow(&error) => self.start_over(&sender, true).await,
                Err(error) => {
                    tracing::warn!(%error, "the socket for kernel events failed; it is opened anew");
                    match listen() {
                        Ok(socket) => self.socket = socket,
                        Err(error) => return tracing::error!(%error, "kernel events cannot be received any more"),
                    }
                    self.start_over(&sender, true).await;
                }
            }
        }
    }

    /// Takes all links anew; after a loss it says so.
    async fn start_over(&mut self, sender: &mpsc::Sender<Event>, lost: bool) {
        self.echoes.forget();
        if let Err(error) = self.learn_links().await {
            tracing::warn!(%error, "links cannot be read for kernel events");
        }
        if lost {
            // Nobody listening any more ends the loop.
            let _ = sender.send(Event::Overflow).await;
        }
    }

    async fn learn_links(&mut self) -> Result<(), KernelError> {
        let links = &mut self.links;
        links.clear();
        let sink = |part: Part<'_>| match part {
            Part::Object(payload) => drop(Link::read(payload).and_then(|link| links.insert(link))),
            Part::Again => links.clear(),
        };
        Connection::open()?.dump(&link::dump(), "links", sink).await
    }

    async fn report(&mut self, datagram: &[u8], sender: &mpsc::Sender<Event>) {
        let own_port = self.own_port.load(Ordering::Relaxed);
        for frame in frames(datagram).flatten() {
            for event in self.classify(&frame, frame.port == own_port) {
                match sender.try_send(event) {
                    Ok(()) => {}
                    // Whoever cannot follow is told to look, once there is room for it.
                    Err(TrySendError::Full(_)) => drop(sender.send(Event::Overflow).await),
                    Err(TrySendError::Closed(_)) => return,
                }
            }
        }
    }
}

/// A socket in all groups. It is bound first: otherwise no notification arrives.
fn listen() -> Result<TokioSocket, KernelError> {
    let socket = socket()?;
    for group in GROUPS {
        socket
            .socket_ref()
            .add_membership(group)
            .map_err(|source| KernelError::Io { object: format!("rtnetlink group {group}"), source })?;
    }
    Ok(socket)
}

fn is_overflow(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error())
}
