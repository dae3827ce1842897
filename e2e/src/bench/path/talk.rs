//! The two conversations: one byte there and one back, and as much as goes.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::lab::Namespace;

const BLOCK: usize = 128 << 10;
/// No measurement waits longer for a byte.
const PATIENCE: Duration = Duration::from_secs(10);

/// One-byte requests answered, a second, over one connection; both ends on one CPU.
pub(super) fn requests(from: &Namespace, to: &Namespace, address: IpAddr, period: Duration) -> Result<f64> {
    converse(from, to, address, true, echo, move |stream| {
        let (mut byte, mut count, began) = ([0], 0_u32, Instant::now());
        while began.elapsed() < period {
            stream.write_all(&byte)?;
            stream.read_exact(&mut byte)?;
            count += 1;
        }
        Ok(f64::from(count) / began.elapsed().as_secs_f64())
    })
}

/// Gigabits a second of one stream, as the receiver counts them.
pub(super) fn bulk(from: &Namespace, to: &Namespace, address: IpAddr, period: Duration) -> Result<f64> {
    converse(from, to, address, false, count, move |stream| {
        let (block, began) = (vec![0; BLOCK], Instant::now());
        while began.elapsed() < period {
            stream.write_all(&block)?;
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut received = [0; 8];
        stream.read_exact(&mut received)?;
        Ok(u64::from_be_bytes(received) as f64 * 8.0 / 1e9 / began.elapsed().as_secs_f64())
    })
}

/// Answers each byte until the other side ends.
fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

/// Counts octets until the other side has sent its last, and tells their number.
fn count(stream: &mut TcpStream) -> std::io::Result<()> {
    let (mut block, mut total) = (vec![0; BLOCK], 0_u64);
    loop {
        match stream.read(&mut block)? {
            0 => return stream.write_all(&total.to_be_bytes()),
            octets => total += octets as u64,
        }
    }
}

/// Runs `answer` in `to` and `ask` in `from` over one connection.
fn converse(
    from: &Namespace,
    to: &Namespace,
    address: IpAddr,
    pinned: bool,
    answer: fn(&mut TcpStream) -> std::io::Result<()>,
    ask: impl FnOnce(&mut TcpStream) -> std::io::Result<f64> + Send + 'static,
) -> Result<f64> {
    let listener = to.enter(move || TcpListener::bind(SocketAddr::new(address, 0))).context("nobody can answer")?;
    let at = listener.local_addr()?;
    let answering = thread::spawn(move || -> Result<()> {
        pin(pinned)?;
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(answer(&mut stream)?)
    });
    let mut stream = from.enter(move || TcpStream::connect_timeout(&at, PATIENCE)).with_context(|| format!("{at}"))?;
    let asking = thread::spawn(move || -> Result<f64> {
        pin(pinned)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(ask(&mut stream)?)
    });
    let figure = asking.join().expect("it returns its errors").context("the asking side")?;
    answering.join().expect("it returns its errors").context("the answering side")?;
    Ok(figure)
}

/// Puts the calling thread on the first CPU: the sockets live in their namespaces, threads need not.
fn pin(pinned: bool) -> Result<()> {
    if !pinned {
        return Ok(());
    }
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first).context("the first CPU cannot be asked for")
}
