//! A server behind Services, and who asked it.
//!
//! Owns the question and what is known of its way: which backend answered, and as whom it saw the client.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::objects::{Endpoint, TARGET};
use crate::lab::{
    Namespace,
    echo::{Echo, Transport, exchange},
    wait::limit,
};

/// Patience for an answer on an open connection.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// A server of TCP and UDP on one address.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) endpoint: Endpoint,
    servers: [Echo; 2],
}

/// What one question showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Who answered.
    pub(super) backend: String,
    /// As whom it saw the client.
    pub(super) source: IpAddr,
}

impl Backend {
    pub(super) fn start(name: &str, node: &str, net: &Namespace, address: IpAddr) -> Result<Self> {
        let [tcp, udp] = TRANSPORTS.map(|transport| Echo::start(net, transport, (address, TARGET).into()));
        let endpoint = Endpoint { address, node: node.to_owned() };
        Ok(Self { name: name.to_owned(), endpoint, servers: [tcp?, udp?] })
    }

    /// Whom its servers have answered so far.
    fn answered(&self) -> [Vec<SocketAddr>; 2] {
        self.servers.each_ref().map(Echo::peers)
    }

    /// Whom they have answered since. An address and port may come again.
    fn answered_since(&self, before: &[Vec<SocketAddr>; 2]) -> Vec<SocketAddr> {
        let now = self.answered();
        now.iter().zip(before).flat_map(|(now, before)| now[before.len()..].to_vec()).collect()
    }
}

/// A connection that stays open.
#[derive(Debug)]
pub(super) struct Talk {
    stream: TcpStream,
}

impl Talk {
    /// Connects, and says which backend has the connection.
    pub(super) async fn open(backends: &[Backend], from: &Namespace, to: SocketAddr) -> Result<(Self, String)> {
        let before: Vec<_> = backends.iter().map(Backend::answered).collect();
        let mut talk = Self { stream: from.tcp_towards(to.ip())?.connect(to).await? };
        talk.say("hello").await?;
        let mut all = backends.iter().zip(&before);
        let taken = all.find(|(backend, before)| !backend.answered_since(before).is_empty());
        let (backend, _) = taken.with_context(|| format!("no backend has the connection to {to}"))?;
        Ok((talk, backend.name.clone()))
    }

    /// Says something, and hears it back.
    pub(super) async fn say(&mut self, words: &str) -> Result<()> {
        let mut back = vec![0; words.len()];
        let patience = limit(PATIENCE);
        let said = async {
            self.stream.write_all(words.as_bytes()).await?;
            self.stream.read_exact(&mut back).await
        };
        timeout(patience, said).await.with_context(|| format!("no answer within {patience:?}"))??;
        ensure!(back == words.as_bytes(), "something else came back");
        Ok(())
    }
}

/// Asks `to` once.
pub(super) async fn ask(backends: &[Backend], from: &Namespace, transport: Transport, to: SocketAddr) -> Result<Seen> {
    let before: Vec<_> = backends.iter().map(Backend::answered).collect();
    exchange(from, transport, to, b"who am I?").await?;
    let mut seen = Vec::new();
    for (backend, before) in backends.iter().zip(&before) {
        let new = backend.answered_since(before).into_iter();
        seen.extend(new.map(|peer| Seen { backend: backend.name.clone(), source: peer.ip() }));
    }
    match &seen[..] {
        [one] => Ok(one.clone()),
        other => bail!("one question over {transport:?} to {to} was seen as {other:?}"),
    }
}

/// Asks `to` over both transports; both have to show the same.
pub(super) async fn ask_both(backends: &[Backend], from: &Namespace, to: SocketAddr) -> Result<Seen> {
    let [tcp, udp] = [ask(backends, from, Transport::Tcp, to).await?, ask(backends, from, Transport::Udp, to).await?];
    ensure!(tcp == udp, "over TCP {tcp:?} and over UDP {udp:?}");
    Ok(tcp)
}
