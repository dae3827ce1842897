//! How two pods talk, over TCP: a line that says what to do, then bytes.
//!
//! `echo N`, N bytes: the same bytes come back. `call ADDRESS`: the server sends an echo to the same port of ADDRESS, and
//! answers with `ok MICROSECONDS` or `failed WHY`. Must never take more from the other side than it has bounded before.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::BYTES;

/// For connecting, and for each exchange.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_LINE: u64 = 512;

/// What was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// So many bytes follow.
    Echo(usize),
    /// Call this address.
    Call(IpAddr),
}

impl Request {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        match line.trim_end().split_once(' ')? {
            ("echo", length) => length.parse().ok().filter(|length| *length <= BYTES).map(Self::Echo),
            ("call", address) => address.parse().ok().map(Self::Call),
            _ => None,
        }
    }
}

/// Sends bytes there and back; how long that took, the connection included.
pub(super) async fn echo(to: SocketAddr) -> io::Result<Duration> {
    let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    let begin = Instant::now();
    patiently(async {
        let mut stream = BufReader::new(TcpStream::connect(to).await?);
        stream.write_all(format!("echo {BYTES}\n").as_bytes()).await?;
        stream.write_all(&sent).await?;
        let mut back = vec![0; BYTES];
        stream.read_exact(&mut back).await?;
        if back != sent { Err(io::Error::other("other bytes came back than were sent")) } else { Ok(()) }
    })
    .await?;
    Ok(begin.elapsed())
}

/// Has the pod at `from` call `to`: how long that took, or why it could not; an error where `from` itself does not answer.
pub(super) async fn call(from: SocketAddr, to: IpAddr) -> io::Result<Result<Duration, String>> {
    let answer = patiently(async {
        let mut stream = TcpStream::connect(from).await?;
        stream.write_all(format!("call {to}\n").as_bytes()).await?;
        line(&mut BufReader::new(stream)).await
    })
    .await?;
    match answer.trim_end().split_once(' ') {
        Some(("ok", micros)) => {
            Ok(Ok(Duration::from_micros(micros.parse().map_err(|_| io::Error::other("no answer of ours"))?)))
        }
        Some(("failed", why)) => Ok(Err(why.to_owned())),
        _ => Err(io::Error::other("no answer of ours")),
    }
}

/// A line of bounded length.
pub(super) async fn line<R: AsyncBufReadExt + Unpin>(stream: &mut R) -> io::Result<String> {
    let mut line = String::new();
    stream.take(LONGEST_LINE).read_line(&mut line).await?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::Error::other("the answer broke off")) }
}

/// The caller has to wait for the called, so twice as long as one exchange may take.
async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(2 * PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_bounded() {
        assert_eq!(Request::parse("echo 10\n"), Some(Request::Echo(10)));
        assert_eq!(Request::parse("call fd00::1\n"), Some(Request::Call("fd00::1".parse().expect("an address"))));
        for wrong in ["echo 99999999\n", "echo -1\n", "call there\n", "echo\n", "\n", "get / HTTP/1.1\n"] {
            assert_eq!(Request::parse(wrong), None, "{wrong:?}");
        }
    }
}
