//! Events about table `inet weft`.
//!
//! Says only that there is something to look at. What our own socket caused is left out: the kernel names in each event
//! the port id of whoever caused it. Must never block the kernel's sender; what does not fit is lost and reported so.
//! While our own hand changes thousands of elements nobody listens, and then everything is looked at once.

use std::{convert::Infallible, future::poll_fn, io};

use futures::FutureExt;
use netlink_sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};
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
pub(super) fn subscribe(own: u32, sender: mpsc::Sender<Event>) -> io::Result<Subscription> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    // Membership before the bind brings no notification.
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(GROUP)?;
    // Our own changes come back as well, 1,000 elements as almost 100 KB: they must not push out what others do.
    enlarge_receiving(socket.socket_ref())?;
    let (asking, asked) = mpsc::channel(1);
    tokio::spawn(async move {
        tokio::select! {
            () = sender.closed() => {}
            () = Listener { socket, own, sender: &sender }.run(asked) => {}
        }
    });
    Ok(Subscription { asking })
}

/// The subscription, as whoever changes the table has it.
#[derive(Debug)]
pub(super) struct Subscription {
    asking: mpsc::Sender<Silence>,
}

/// Nobody listens until it is dropped.
#[derive(Debug)]
pub(super) struct Paused(#[expect(dead_code, reason = "its end is the message")] oneshot::Sender<Infallible>);

/// A wish to hear nothing: the answer that nobody listens any more, and how long.
#[derive(Debug)]
struct Silence {
    begun: oneshot::Sender<()>,
    ended: oneshot::Receiver<Infallible>,
}

impl Subscription {
    /// Leaves the kernel's group. For each element of a transaction the kernel makes a message of its own as long as anybody
    /// listens (`nf_tables_setelem_notify` in net/netfilter/nf_tables_api.c), which is most of what the transaction costs.
    /// What others do meanwhile is not missed: one [`Event::Look`] follows the end.
    pub(super) async fn pause(&self) -> Option<Paused> {
        let (begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        self.asking.send(Silence { begun: begin, ended }).await.ok()?;
        begun.await.ok()?;
        Some(Paused(end))
    }
}

struct Listener<'a> {
    socket: TokioSocket,
    own: u32,
    sender: &'a mpsc::Sender<Event>,
}

impl Listener<'_> {
    async fn run(mut self, mut asked: mpsc::Receiver<Silence>) {
        loop {
            let outcome = tokio::select! {
                receipt = poll_fn(|context| self.socket.poll_recv_from_full(context)) => self.take(receipt).await,
                Some(silence) = asked.recv() => self.keep(silence).await,
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, "events about nftables end here; the regular full look still finds changes");
                return;
            }
        }
    }

    /// Reports a receipt, and what else has come: one transaction can fill several datagrams, and all of them say the same.
    async fn take(&self, receipt: io::Result<(Vec<u8>, SocketAddr)>) -> io::Result<()> {
        let mut news = News::default();
        let mut outcome = news.take(receipt, self.own);
        for _ in 0..AT_ONCE {
            let Some(more) = poll_fn(|context| self.socket.poll_recv_from_full(context)).now_or_never() else { break };
            outcome = outcome.and(news.take(more, self.own));
        }
        self.tell(news).await;
        outcome
    }

    async fn keep(&mut self, silence: Silence) -> io::Result<()> {
        self.socket.socket_mut().drop_membership(GROUP)?;
        // Whoever asked may be gone: then the silence has ended already.
        let _ = silence.begun.send(());
        let _ = silence.ended.await;
        self.socket.socket_mut().add_membership(GROUP)?;
        self.tell(News { look: true, overflow: false }).await;
        Ok(())
    }

    async fn tell(&self, news: News) {
        let events = [(news.look, Event::Look), (news.overflow, Event::Overflow)];
        for (_, event) in events.into_iter().filter(|(is, _)| *is) {
            // Nobody is left to be told: `subscribe` ends the listening.
            let _ = self.sender.send(event).await;
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
    /// Adds one receipt; an error where there will be no more.
    fn take(&mut self, receipt: io::Result<(Vec<u8>, SocketAddr)>, own: u32) -> io::Result<()> {
        match receipt {
            Ok((bytes, _)) => self.look |= concerns(&bytes, own),
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => self.overflow = true,
            Err(error) => return Err(error),
        }
        Ok(())
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
