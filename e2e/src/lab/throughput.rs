//! How many bytes one TCP connection moves.
//!
//! Owns one bulk transfer. An absolute figure of a lab says little (its wires are memory): compare figures of one run.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{Namespace, wait::limit};

const CHUNK: usize = 128 * 1024;

/// Sends from one namespace to `address` in another for `period` and returns bits of payload a second.
///
/// # Errors
/// Where no connection comes about or it breaks.
pub async fn throughput(from: &Namespace, to: &Namespace, address: IpAddr, period: Duration) -> Result<f64> {
    let listener = to.tcp_listener(SocketAddr::new(address, 0))?;
    let target = listener.local_addr()?;
    let receiver = tokio::task::spawn_blocking(move || receive(&listener.accept()?.0));
    let sender = from.enter(move || TcpStream::connect_timeout(&target, limit(Duration::from_secs(3))));
    let sender = sender.with_context(|| format!("{} cannot connect to {target}", from.name()))?;
    tokio::task::spawn_blocking(move || send(&sender, period)).await??;
    receiver.await?
}

fn send(mut stream: &TcpStream, period: Duration) -> Result<()> {
    stream.set_write_timeout(Some(period + limit(Duration::from_secs(5))))?;
    let (chunk, start) = (vec![0; CHUNK], Instant::now());
    while start.elapsed() < period {
        stream.write_all(&chunk).context("the transfer stalled")?;
    }
    Ok(())
}

fn receive(mut stream: &TcpStream) -> Result<f64> {
    stream.set_read_timeout(Some(limit(Duration::from_secs(10))))?;
    let (mut buffer, mut total, start) = (vec![0; CHUNK], 0_u64, Instant::now());
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            length => total += length as u64,
        }
    }
    #[allow(clippy::cast_precision_loss)]
    Ok(total as f64 * 8.0 / start.elapsed().as_secs_f64())
}
