//! ICMP echo from any namespace.
//!
//! Owns one question and its answer: a reply with its round trip, an unreachable and who said so, or silence.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, sendto, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use super::{Namespace, frame::echo_request, wait::limit};

/// Patience for one answer.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// ICMP and ICMPv6 types (RFC 792, RFC 4443).
const REPLY: (u8, u8) = (0, 129);
const UNREACHABLE: (u8, u8) = (3, 1);

static NEXT: AtomicU16 = AtomicU16::new(1);

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The echo.
    Reply {
        /// From sending to receiving.
        rtt: Duration,
    },
    /// "Destination unreachable", about this very request.
    Unreachable {
        /// Who said so.
        by: IpAddr,
        /// ICMP code.
        code: u8,
    },
    /// The sender's own kernel has no way: it refused to send.
    Refused(io::ErrorKind),
    /// Nothing.
    Silence,
}

impl Answer {
    /// The round trip.
    ///
    /// # Errors
    /// Where it was no reply.
    pub fn reply(self) -> Result<Duration> {
        match self {
            Self::Reply { rtt } => Ok(rtt),
            other => bail!("no echo reply but {other:?}"),
        }
    }
}

/// Sends one echo request from `namespace` and waits for what comes back, for [`limit`] of `patience`.
///
/// # Errors
/// Where no raw socket can be opened.
pub async fn ping(namespace: &Namespace, to: IpAddr, patience: Duration) -> Result<Answer> {
    let patience = limit(patience);
    let socket = namespace.enter(move || open(to)).with_context(|| format!("{}: cannot ping", namespace.name()))?;
    // Unique in the lab's process, and so is every socket's answer.
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || ask(&socket, to, id, patience)).await?
}

fn open(to: IpAddr) -> io::Result<OwnedFd> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    Ok(socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?)
}

fn ask(socket: &OwnedFd, to: IpAddr, id: u16, patience: Duration) -> Result<Answer> {
    let request = echo_request(to.is_ipv6(), id, 1);
    let start = Instant::now();
    if let Err(error) = sendto(socket, &request, SendFlags::empty(), &SocketAddr::new(to, 0)) {
        return Ok(Answer::Refused(io::Error::from(error).kind()));
    }
    let mut buffer = [0; 2048];
    loop {
        let left = patience.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(Answer::Silence);
        }
        set_socket_timeout(socket, Timeout::Recv, Some(left))?;
        let (length, from) = match recvfrom(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((length, _, from)) => (length, from),
            Err(rustix::io::Errno::AGAIN) => return Ok(Answer::Silence),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error).context("cannot read an ICMP socket"),
        };
        let by = from.and_then(|from| SocketAddr::try_from(from).ok()).map_or(unspecified(to), |from| from.ip());
        if let Some(answer) = read(&buffer[..length], to, id, by, start.elapsed()) {
            return Ok(answer);
        }
    }
}

/// The answer in a message, where it is about our request.
fn read(packet: &[u8], to: IpAddr, id: u16, by: IpAddr, rtt: Duration) -> Option<Answer> {
    // An IPv4 raw socket hands the IP header out, an IPv6 one does not (ip(7), RFC 3542).
    let message = if to.is_ipv4() { packet.get(usize::from(packet.first()? & 0x0f) * 4..)? } else { packet };
    let pick = |pair: (u8, u8)| if to.is_ipv4() { pair.0 } else { pair.1 };
    let kind = *message.first()?;
    if kind == pick(REPLY) && message.get(4..6)? == id.to_be_bytes() && by == to {
        return Some(Answer::Reply { rtt });
    }
    if kind == pick(UNREACHABLE) {
        let quoted = message.get(8..)?;
        let echo =
            if to.is_ipv4() { quoted.get(usize::from(quoted.first()? & 0x0f) * 4..)? } else { quoted.get(40..)? };
        return (echo.get(4..6)? == id.to_be_bytes()).then(|| Answer::Unreachable { by, code: message[1] });
    }
    None
}

fn unspecified(to: IpAddr) -> IpAddr {
    match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
