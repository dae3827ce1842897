//! HTTP as the tests need it: one GET from any namespace.
//!
//! Owns one request and its answer.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::lab::Namespace;

/// Patience for one exchange; longer than the first repetition of a lost SYN, so that a path which loses nothing answers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks `to` for `path` from `namespace`: the body of the answer, and the address the question came from.
///
/// # Errors
/// Where nobody answers in time, or not with 200.
pub async fn get(namespace: &Namespace, to: SocketAddr, path: &str) -> Result<(String, SocketAddr)> {
    let what = || format!("{}: GET http://{to}{path}", namespace.name());
    match timeout(PATIENCE, ask(namespace, to, path)).await {
        Ok(answer) => answer.with_context(what),
        Err(_) => bail!("{} was not answered within {PATIENCE:?}", what()),
    }
}

async fn ask(namespace: &Namespace, to: SocketAddr, path: &str) -> Result<(String, SocketAddr)> {
    let mut stream = namespace.tcp_towards(to.ip())?.connect(to).await.context("cannot connect")?;
    let own = stream.local_addr()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("that is no HTTP answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("answered {head}");
    }
    Ok((body.to_owned(), own))
}
