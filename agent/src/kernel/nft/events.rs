//! Events about table `inet weft`.
//!
//! Says only that there is something to look at. What our own socket caused is left out: the kernel names in each event
//! the port id of whoever caused it. Must never block the kernel's sender; what does not fit is lost and reported so.

use std::{future::poll_fn, io};

use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use tokio::sync::mpsc;
use weft_core::nft::TABLE;

use super::{
    table::TABLE_NAME,
    wire::{FAMILY_HEADER, INET, Parsed, Received, SUBSYSTEM, messages},
};
use crate::kernel::Event;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// `NFT_MSG_NEWGEN`: says that a transaction ended, after its events.
const NEW_GENERATION: u16 = 15;

/// Subscribes, from now on, and sends into `sender` until its receiver is gone. `own` is the port id whose changes are
/// left out.
pub(super) fn subscribe(own: u32, sender: mpsc::Sender<Event>) -> io::Result<()> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    // Membership before the bind brings no notification.
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(GROUP)?;
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
        let event = match poll_fn(|context| socket.poll_recv_from_full(context)).await {
            Ok((bytes, _)) if concerns(&bytes, own) => Event::Look,
            Ok(_) => continue,
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => Event::Overflow,
            Err(error) => {
                tracing::warn!(%error, "events about nftables end here; the regular full look still finds changes");
                return;
            }
        };
        if sender.send(event).await.is_err() {
            return;
        }
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
