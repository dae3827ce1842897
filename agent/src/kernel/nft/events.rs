//! Events about table `inet weft`.
//!
//! Says only that there is something to look at. What our own socket caused is left out: the kernel names in each event
//! the port id of whoever caused it. Must never block the kernel's sender; what does not fit is lost and reported so.

use std::{future::poll_fn, io};

use futures::FutureExt;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use tokio::sync::mpsc;
use weft_core::nft::TABLE;

use super::{
    socket::enlarge_receiving,
    table::TABLE_NAME,
    wire::{FAMILY_HEADER, INET, Parsed, Received, SUBSYSTEM, messages},
};
use crate::kernel::Event;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// `NFT_MSG_NEWGEN`: says that a transaction ended, after its events.
const NEW_GENERATION: u16 = 15;
/// Datagrams taken before an event goes out.
const AT_ONCE: usize = 256;

/// Subscribes, from now on, and sends into `sender` until its receiver is gone. `own` is the port id whose changes are
/// left out.
pub(super) fn subscribe(own: u32, sender: mpsc::Sender<Event>) -> io::Result<()> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    // Membership before the bind brings no notification.
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(GROUP)?;
    // Our own changes come back as well, 10,000 elements as almost a megabyte: they must not push out what others do.
    enlarge_receiving(socket.socket_ref())?;
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = forward(&socket, own, &sender) => {}
        }
    });
    Ok(())
}

async fn forward(socket: &TokioSocket, own: u32, sender: &mpsc::Sender<Event>) {
    loop {
        let mut news = News::default();
        let mut open = news.take(poll_fn(|context| socket.poll_recv_from_full(context)).await, own);
        // One transaction can fill several datagrams, and all of them say the same.
        for _ in 0..AT_ONCE {
            let Some(more) = poll_fn(|context| socket.poll_recv_from_full(context)).now_or_never() else { break };
            open &= news.take(more, own);
        }
        let events = [(news.look, Event::Look), (news.overflow, Event::Overflow)];
        for (_, event) in events.into_iter().filter(|(is, _)| *is) {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        if !open {
            return;
        }
    }
}

/// What some datagrams said together.
#[derive(Debug, Default)]
struct News {
    look: bool,
    overflow: bool,
}

impl News {
    /// Adds one receipt; false where there will be no more.
    fn take(&mut self, receipt: io::Result<(Vec<u8>, SocketAddr)>, own: u32) -> bool {
        match receipt {
            Ok((bytes, _)) => self.look |= concerns(&bytes, own),
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => self.overflow = true,
            Err(error) => {
                tracing::warn!(%error, "events about nftables end here; the regular full look still finds changes");
                return false;
            }
        }
        true
    }
}

/// True where a datagram says something about our table that was not our doing. What cannot be read may be about it.
fn concerns(bytes: &[u8], own: u32) -> bool {
    messages(bytes).map_or(true, |found| found.iter().any(|message| message.port != own && is_about_table(message)))
}

fn is_about_table(message: &Received<'_>) -> bool {
    if message.kind >> 8 != SUBSYSTEM || message.kind & 0xff == NEW_GENERATION {
        return false;
    }
    let Some((family, attributes)) = message.payload.split_at_checked(FAMILY_HEADER) else { return true };
    family[0] == INET && Parsed::new(attributes).map_or(true, |read| read.text(TABLE_NAME).as_deref() == Some(TABLE))
}
