//! Accepting connections.
//!
//! Owns the listening socket and the handshakes. A storm of reconnecting agents waits in the backlog and then for one
//! of a bounded number of turns. A peer that says nothing gets no turn, one that dawdles loses it, and where there are
//! too many of both the oldest has to go. Must never let one peer hold up another.

mod seats;

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use rustls::{HandshakeKind, ServerConfig};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use super::{Caller, Connection, Kill};
use crate::{clock, metrics::Metrics, pki::Identity};
use seats::{Seat, Seats};

/// Connections the kernel keeps for us while we are busy; it caps this at net.core.somaxconn.
const BACKLOG: u32 = 4096;
/// A peer whose part of the handshake takes longer goes on without a turn: turns pace a storm, and must not be held by
/// those who do not go on at all.
const TURN: Duration = Duration::from_millis(100);
/// A stranger, who came without a good certificate, is here to join or to renew: its connection ends after this many handshake times.
const STRANGER_TIMES: u32 = 6;

/// What the acceptor allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Open connections; half of them may be in their handshake.
    pub(crate) connections: usize,
    /// Of these without a good certificate.
    pub(crate) strangers: usize,
    /// Handshakes at a time.
    pub(crate) handshakes: usize,
    /// Time for one handshake, with getting a place for it.
    pub(crate) handshake_time: Duration,
}

/// Binds the address with a backlog that a reconnecting cluster fits into.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the receiver is dropped; every connection that comes out has finished its handshake.
pub(crate) fn accept(
    listener: TcpListener,
    config: ServerConfig,
    limits: Limits,
    metrics: Arc<Metrics>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, incoming) = mpsc::channel(64);
    let door = Arc::new(Door {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        handshakes: Semaphore::new(limits.handshakes),
        half_open: Seats::new(limits.connections.div_ceil(2)),
        strangers: Arc::new(Seats::new(limits.strangers)),
        limits,
        metrics,
        ready,
    });
    tokio::spawn(door.run(listener, Arc::new(Semaphore::new(limits.connections))));
    ReceiverStream::new(incoming)
}

/// A word for metrics and a sentence for the log.
type Failed = (&'static str, String);

struct Door {
    acceptor: TlsAcceptor,
    handshakes: Semaphore,
    half_open: Seats,
    strangers: Arc<Seats>,
    limits: Limits,
    metrics: Arc<Metrics>,
    ready: mpsc::Sender<io::Result<Connection>>,
}

impl Door {
    async fn run(self: Arc<Self>, listener: TcpListener, places: Arc<Semaphore>) {
        loop {
            // With all places taken the rest waits in the backlog, at no cost to us.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let seat = self.half_open.seat().await;
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.ready.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => drop(tokio::spawn(Arc::clone(&self).welcome(stream, address, place, seat))),
                Err(error) => {
                    // Out of file descriptors, most likely: going round at once would only burn the CPU.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn welcome(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
        mut seat: Seat,
    ) {
        let limit = self.limits.handshake_time;
        let done = timeout(limit, self.handshake(stream, &mut seat)).await;
        drop(seat);
        let done = done.unwrap_or_else(|_| Err(("timeout", format!("not finished within {limit:?}"))));
        match done.and_then(|stream| self.admit(stream, address, place)) {
            Ok(connection) => {
                let resumed = connection.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                self.metrics.handshake(if resumed { "resumed" } else { "ok" });
                let _closed = self.ready.send(Ok(connection)).await;
            }
            Err((result, detail)) => {
                self.metrics.handshake(result);
                tracing::debug!(peer = %address, "TLS handshake {result}: {detail}");
            }
        }
    }

    async fn handshake(&self, stream: TcpStream, seat: &mut Seat) -> Result<TlsStream<TcpStream>, Failed> {
        let failed = |error: io::Error| ("error", error.to_string());
        let displaced = || ("displaced", "too many handshakes were under way, and this was the oldest".to_owned());
        // Whoever says nothing costs no more than the socket.
        seat.unless_displaced(stream.readable()).await.ok_or_else(displaced)?.map_err(failed)?;
        let turn = self.handshakes.acquire().await;
        let turn = turn.map_err(|_| ("error", "the controller is stopping".to_owned()))?;
        let _small_writes_go_at_once = stream.set_nodelay(true);
        let mut accept = pin!(self.acceptor.accept(stream));
        if let Ok(accepted) = timeout(TURN, &mut accept).await {
            return accepted.map_err(failed);
        }
        drop(turn);
        seat.unless_displaced(accept).await.ok_or_else(displaced)?.map_err(failed)
    }

    /// Sees who it is.
    fn admit(
        &self,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Result<Connection, Failed> {
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity =
            leaf.map(|leaf| Identity::of(leaf)).transpose().map_err(|error| ("identity", error.to_string()))?;
        let kill = Arc::new(Kill::default());
        // Asked of each: where a session was resumed nothing was verified.
        let is_good = identity.as_ref().is_some_and(|identity| !identity.has_ended(clock::unix_seconds()));
        let stranger = (!is_good).then(|| self.bear_with(&kill));
        let caller = Caller { address, identity: identity.map(Arc::new), renewal: Arc::default(), kill };
        Ok(Connection { stream, caller, _place: place, _stranger: stranger })
    }

    /// Lets a stranger stay for a while, until its value is dropped: joining takes a moment.
    fn bear_with(&self, kill: &Arc<Kill>) -> oneshot::Sender<Infallible> {
        let (here, mut gone) = oneshot::channel();
        let (seats, kill) = (Arc::clone(&self.strangers), Arc::clone(kill));
        let time = self.limits.handshake_time * STRANGER_TIMES;
        tokio::spawn(async move {
            let mut seat = tokio::select! {
                seat = seats.seat() => seat,
                _ = &mut gone => return,
            };
            let _over_or_gone = seat.unless_displaced(timeout(time, gone)).await;
            // Of no consequence where it has ended by itself.
            kill.kill();
        });
        here
    }
}
