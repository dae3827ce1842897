//! Echo servers and their clients, over TCP and UDP, in any namespace.
//!
//! Owns the servers' threads of work; each remembers whom it answered, for tests that ask what a server sees of a
//! masqueraded client.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::AbortHandle,
    time::timeout,
};

use super::{Namespace, any, wait::limit};

/// Patience for one exchange.
const PATIENCE: Duration = Duration::from_secs(3);

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A running echo server; dropping it ends it.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
    task: AbortHandle,
}

impl Echo {
    /// Starts a server on `address`; port 0 takes any free one.
    ///
    /// # Errors
    /// Where it cannot be bound.
    pub fn start(namespace: &Namespace, transport: Transport, address: SocketAddr) -> Result<Self> {
        let peers = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&peers);
        let (address, task) = match transport {
            Transport::Tcp => {
                let listener = namespace.tcp_listener(address)?;
                listener.set_nonblocking(true)?;
                (listener.local_addr()?, tokio::spawn(serve_tcp(TcpListener::from_std(listener)?, seen)))
            }
            Transport::Udp => {
                let socket = namespace.udp(address)?;
                socket.set_nonblocking(true)?;
                (socket.local_addr()?, tokio::spawn(serve_udp(UdpSocket::from_std(socket)?, seen)))
            }
        };
        Ok(Self { address, peers, task: task.abort_handle() })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whom it has answered, in order.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.lock().expect("nobody panics while holding it").clone()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends `message` from `namespace` to an echo server and checks that it comes back; returns the client's own address.
///
/// # Errors
/// Where nothing or something else comes back in time.
pub async fn exchange(
    namespace: &Namespace,
    transport: Transport,
    to: SocketAddr,
    message: &[u8],
) -> Result<SocketAddr> {
    let what = || format!("{}: {transport:?} echo of {} bytes with {to}", namespace.name(), message.len());
    let asked = async {
        match transport {
            Transport::Tcp => ask_tcp(namespace, to, message).await,
            Transport::Udp => ask_udp(namespace, to, message).await,
        }
    };
    let patience = limit(PATIENCE);
    match timeout(patience, asked).await {
        Ok(answer) => answer.with_context(what),
        Err(_) => bail!("{} was not answered within {patience:?}", what()),
    }
}

async fn ask_tcp(namespace: &Namespace, to: SocketAddr, message: &[u8]) -> Result<SocketAddr> {
    let mut stream = namespace.tcp_towards(to.ip())?.connect(to).await.context("cannot connect")?;
    let own = stream.local_addr()?;
    let (mut reader, mut writer) = stream.split();
    let mut answer = vec![0; message.len()];
    // Both at once: a long message fills the buffers of both directions.
    tokio::try_join!(writer.write_all(message), reader.read_exact(&mut answer))?;
    ensure!(answer == message, "something else came back");
    Ok(own)
}

async fn ask_udp(namespace: &Namespace, to: SocketAddr, message: &[u8]) -> Result<SocketAddr> {
    let socket = namespace.udp(SocketAddr::new(any(to.ip()), 0))?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    // Connected, so that an ICMP error ends the wait.
    socket.connect(to).await?;
    socket.send(message).await?;
    let mut answer = vec![0; message.len() + 1];
    let length = socket.recv(&mut answer).await?;
    ensure!(&answer[..length] == message, "something else came back");
    Ok(socket.local_addr()?)
}

async fn serve_tcp(listener: TcpListener, seen: Arc<Mutex<Vec<SocketAddr>>>) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        note(&seen, peer);
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.split();
            // A client that goes away ends its own exchange.
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
    }
}

async fn serve_udp(socket: UdpSocket, seen: Arc<Mutex<Vec<SocketAddr>>>) {
    let mut buffer = vec![0; 65_536];
    loop {
        // An ICMP error about an earlier answer shows up here and concerns nobody.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        note(&seen, peer);
        let _ = socket.send_to(&buffer[..length], peer).await;
    }
}

/// IPv4-mapped addresses of dual-stack sockets are shown as what they are.
fn note(seen: &Mutex<Vec<SocketAddr>>, peer: SocketAddr) {
    let address: IpAddr = peer.ip().to_canonical();
    seen.lock().expect("nobody panics while holding it").push(SocketAddr::new(address, peer.port()));
}
