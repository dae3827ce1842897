//! UDP as the tests need it: one datagram from any namespace, and its answer.
//!
//! Owns one question and its answer. The server in each pod answers `hostname` with its pod's name, `clientip` with the
//! address it was asked from, and `echo TEXT` with TEXT.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{net::UdpSocket, time::timeout};

use crate::lab::Namespace;

/// Patience for one exchange.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks `to` from `namespace`: the answer, and the address the question came from.
///
/// # Errors
/// Where nobody answers in time.
pub async fn ask(namespace: &Namespace, to: SocketAddr, question: &str) -> Result<(String, SocketAddr)> {
    let what = || format!("{}: UDP {:?} to {to}", namespace.name(), question.get(..40).unwrap_or(question));
    let socket = namespace.udp_towards(to.ip())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    // Connected, so that an ICMP error ends the wait.
    socket.connect(to).await.with_context(what)?;
    socket.send(question.as_bytes()).await.with_context(what)?;
    let mut answer = vec![0; 65_536];
    let received = timeout(PATIENCE, socket.recv(&mut answer)).await;
    let length = received.with_context(|| format!("{} was not answered within {PATIENCE:?}", what()))?;
    answer.truncate(length.with_context(what)?);
    Ok((String::from_utf8_lossy(&answer).into_owned(), socket.local_addr()?))
}
