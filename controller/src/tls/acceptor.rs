//! Accepting connections.
//!
//! Owns the listening socket and the handshakes. A storm of reconnecting agents waits in the backlog and then for one
//! of a bounded number of turns. A peer that says nothing gets no turn, one that dawdles loses it, and where there are
//! too many of both the oldest has to go. Nobody is known before the handshake, so that these have a share of all connections
//! to themselves; afterwards the [`Lobby`] has a place or none. Must never let one peer hold up another.

mod seats;

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use rustls::{HandshakeKind, ServerConfig};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Caller, Connection, Enough, Kill, Signs, Welcome,
    lobby::{Lobby, Seated},
    places::{Bounds, Who},
};
use crate::{clock, metrics::Metrics, pki::Identity};
use seats::{Seat, Seats};

/// Connections the kernel keeps for us while we are busy; it caps this at net.core.somaxconn.
const BACKLOG: u32 = 4096;
/// A peer whose part of the handshake takes longer goes on without a turn: turns pace a storm, and must not be held by
/// those who do not go on at all.
const TURN: Duration = Duration::from_millis(100);
/// A stranger, who came without a certificate that counts, is here to join or to renew: its connection ends after this many
/// handshake times.
const STRANGER_TIMES: u32 = 6;
/// One part in so many of all connections is for those in their handshake: with the backlog, room for the largest cluster to come
/// back at once.
const HALF_OPEN: usize = 3;
/// One part in so many of the others is for strangers.
const STRANGERS: usize = 4;

/// What the acceptor allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Open connections, with those in their handshake.
    pub(crate) connections: usize,
    /// Of these without a certificate that counts, at most.
    pub(crate) strangers: usize,
    /// Handshakes at a time.
    pub(crate) handshakes: usize,
    /// Time for one handshake; as much again for a place after it, and then for the first request.
    pub(crate) handshake_time: Duration,
}

impl Limits {
    fn half_open(&self) -> usize {
        self.connections.div_ceil(HALF_OPEN)
    }

    fn bounds(&self) -> Bounds {
        let all = self.connections.saturating_sub(self.half_open()).max(1);
        let strangers = self.strangers.min(all.div_ceil(STRANGERS));
        Bounds { all, strangers, first_request: self.handshake_time, stay: self.handshake_time * STRANGER_TIMES }
    }
}

/// Binds the address with a backlog that a reconnecting cluster fits into.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the receiver is dropped; every connection that comes out has finished its handshake and has a place.
pub(crate) fn accept(
    listener: TcpListener,
    config: ServerConfig,
    limits: Limits,
    welcome: Welcome,
    metrics: Arc<Metrics>,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, incoming) = mpsc::channel(64);
    let door = Arc::new(Door {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        handshakes: Semaphore::new(limits.handshakes),
        half_open: Seats::new(limits.half_open()),
        lobby: Lobby::new(limits.bounds(), welcome, Arc::clone(&metrics)),
        limits,
        metrics,
        ready,
    });
    tokio::spawn(async move {
        tokio::select! {
            () = Arc::clone(&door).run(listener) => {}
            () = Arc::clone(&door.lobby).keep_clear() => {}
        }
    });
    ReceiverStream::new(incoming)
}

/// A word for metrics and a sentence for the log.
type Failed = (&'static str, String);

fn displaced() -> Failed {
    ("displaced", "too many handshakes were under way, and this was the oldest".to_owned())
}

struct Door {
    acceptor: TlsAcceptor,
    handshakes: Semaphore,
    half_open: Seats,
    lobby: Arc<Lobby>,
    limits: Limits,
    metrics: Arc<Metrics>,
    ready: mpsc::Sender<io::Result<Connection>>,
}

impl Door {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            // With all seats taken the rest waits in the backlog, at no cost to us.
            let seat = self.half_open.seat().await;
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.ready.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => drop(tokio::spawn(Arc::clone(&self).welcome(stream, address, seat))),
                Err(error) => {
                    // Out of file descriptors, most likely: going round at once would only burn the CPU.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn welcome(self: Arc<Self>, stream: TcpStream, address: SocketAddr, mut seat: Seat) {
        let done = self.let_in(stream, address, &mut seat).await;
        drop(seat);
        match done {
            Ok(connection) => {
                let resumed = connection.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                self.metrics.handshake(if resumed { "resumed" } else { "ok" });
                let _closed = self.ready.send(Ok(connection)).await;
            }
            Err((result, detail)) => {
                self.metrics.handshake(result);
                tracing::debug!(peer = %address, "connection {result}: {detail}");
            }
        }
    }

    /// From the first byte to a place.
    async fn let_in(&self, stream: TcpStream, address: SocketAddr, seat: &mut Seat) -> Result<Connection, Failed> {
        let limit = self.limits.handshake_time;
        let own = stream.local_addr().map_err(|error| ("failed", error.to_string()))?.ip().to_canonical();
        let shaken = timeout(limit, self.handshake(stream, seat)).await;
        let stream = shaken.map_err(|_| ("timeout", format!("handshake not finished within {limit:?}")))??;
        let identity = identity(&stream)?;
        let kill = Arc::new(Kill::default());
        let signs = Arc::new(Signs::until(identity.as_ref().map_or(0, |identity| identity.ends_unix)));
        let placed = timeout(limit, seat.unless_displaced(self.place(identity.as_ref(), &signs, &kill))).await;
        let (seated, enough) = placed.map_err(|_| self.full(address))?.ok_or_else(displaced)?;
        let caller =
            Caller { address, own, identity: identity.map(Arc::new), renewal: Arc::default(), kill, signs, enough };
        Ok(Connection { stream, caller, _seated: seated })
    }

    fn full(&self, address: SocketAddr) -> Failed {
        let all = self.limits.bounds().all;
        let detail =
            format!("all {all} connections are taken: raise the limit on open files (LimitNOFILE=, ulimit -n)");
        tracing::warn!(peer = %address, "no place for a connection: {detail}");
        ("full", detail)
    }

    async fn handshake(&self, stream: TcpStream, seat: &mut Seat) -> Result<TlsStream<TcpStream>, Failed> {
        let failed = |error: io::Error| ("error", error.to_string());
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

    /// A place for whom this speaks for; one too many of an operator's has a stranger's, for as long as it takes to say so.
    async fn place(
        &self,
        identity: Option<&Identity>,
        signs: &Arc<Signs>,
        kill: &Arc<Kill>,
    ) -> (Seated, Option<Enough>) {
        // Asked of each: where a session was resumed nothing was verified.
        let good = identity.filter(|identity| !identity.has_ended(clock::unix_seconds()));
        let who = good.map_or(Who::Stranger, |identity| self.lobby.who(&identity.principal));
        match self.lobby.enter(&who, signs, kill).await {
            Ok(seated) => (seated, None),
            Err(enough) => (self.lobby.as_stranger(signs, kill).await, Some(enough)),
        }
    }
}

/// Whom a connection speaks for.
fn identity(stream: &TlsStream<TcpStream>) -> Result<Option<Identity>, Failed> {
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    leaf.map(|leaf| Identity::of(leaf)).transpose().map_err(|error| ("identity", error.to_string()))
}
