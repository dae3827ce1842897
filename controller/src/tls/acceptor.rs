//! Accepting connections.
//!
//! Owns the listening socket and the handshakes. A storm of reconnecting agents waits in the backlog and then for one
//! of a bounded number of handshakes; a peer that dawdles loses its place. Must never let one peer hold up another.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{HandshakeKind, ServerConfig};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::{Caller, Connection, Kill};
use crate::{metrics::Metrics, pki::Identity};

/// Connections the kernel keeps for us while we are busy; it caps this at net.core.somaxconn.
const BACKLOG: u32 = 4096;

/// What the acceptor allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Open connections.
    pub(crate) connections: usize,
    /// Handshakes at a time.
    pub(crate) handshakes: usize,
    /// Time for one handshake, and for getting a place for it.
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
        limits,
        metrics,
        ready,
    });
    tokio::spawn(door.run(listener, Arc::new(Semaphore::new(limits.connections))));
    ReceiverStream::new(incoming)
}

struct Door {
    acceptor: TlsAcceptor,
    handshakes: Semaphore,
    limits: Limits,
    metrics: Arc<Metrics>,
    ready: mpsc::Sender<io::Result<Connection>>,
}

impl Door {
    async fn run(self: Arc<Self>, listener: TcpListener, places: Arc<Semaphore>) {
        loop {
            // With all places taken the rest waits in the backlog, at no cost to us.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.ready.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => drop(tokio::spawn(Arc::clone(&self).welcome(stream, address, place))),
                Err(error) => {
                    // Out of file descriptors, most likely: going round at once would only burn the CPU.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn welcome(self: Arc<Self>, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        match self.handshake(stream, address, place).await {
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

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Result<Connection, (&'static str, String)> {
        let limit = self.limits.handshake_time;
        let late = |_| ("timeout", format!("not finished within {limit:?}"));
        let turn = timeout(limit, self.handshakes.acquire()).await.map_err(late)?;
        let _turn = turn.map_err(|_| ("error", "the controller is stopping".to_owned()))?;
        let _small_writes_go_at_once = stream.set_nodelay(true);
        let stream = timeout(limit, self.acceptor.accept(stream)).await.map_err(late)?;
        let stream = stream.map_err(|error| ("error", error.to_string()))?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let identity = match leaf.map(|leaf| Identity::of(leaf)).transpose() {
            Ok(identity) => identity.map(Arc::new),
            Err(error) => return Err(("identity", error.to_string())),
        };
        Ok(Connection { stream, caller: Caller { address, identity, kill: Arc::new(Kill::default()) }, _place: place })
    }
}
