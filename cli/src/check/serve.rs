//! The pod on each node: echoes, and calls the others when it is asked to.
//!
//! Must never call another port than its own, so that it is nobody's way to somewhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::talk::{self, PATIENCE, Request};

pub(super) async fn run(port: u16) -> anyhow::Result<()> {
    let listener = bind(port).await.with_context(|| format!("port {port} cannot be listened on"))?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
    tokio::select! {
        () = serve(listener, port) => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// For both families where the kernel has both.
async fn bind(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).await,
    }
}

async fn serve(listener: TcpListener, port: u16) {
    loop {
        // A connection that is gone before it is taken is no reason to end.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(timeout(4 * PATIENCE, answer(stream, port)));
        }
    }
}

async fn answer(stream: TcpStream, port: u16) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    match Request::parse(&talk::line(&mut stream).await?) {
        Some(Request::Echo(length)) => {
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).await?;
            stream.write_all(&bytes).await
        }
        Some(Request::Call(to)) => {
            let answer = called(to, port).await;
            stream.write_all(answer.as_bytes()).await
        }
        None => stream.write_all(b"failed this is no request\n").await,
    }
}

async fn called(to: IpAddr, port: u16) -> String {
    match timeout(PATIENCE, talk::echo(SocketAddr::new(to, port))).await {
        Ok(Ok(took)) => format!("ok {}\n", took.as_micros()),
        Ok(Err(error)) => format!("failed {error}\n"),
        Err(_) => format!("failed no answer within {} s\n", PATIENCE.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pod_calls_another_and_says_who_does_not_answer() {
        let listener = bind(0).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(serve(listener, port));
        let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        talk::call(own, own.ip()).await.expect("it answers").expect("it reaches itself");
        // Nobody listens on another loopback address once the server is bound to all: a refused port shows a failure.
        let away = talk::call(own, "192.0.2.1".parse().expect("an address")).await.expect("it answers");
        assert!(away.is_err(), "a documentation address must not answer");
        let silent = talk::call(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1), own.ip()).await;
        assert!(silent.is_err(), "nobody serves there");
    }
}
