//! DNS as the tests need it: one question over UDP from any namespace (RFC 1035, RFC 2782, RFC 3596).
//!
//! Owns the encoding of a question and the reading of its answers. Must never guess: what cannot be read is an error.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{net::UdpSocket, time::timeout};
use weft_core::types::Family;

use crate::lab::Namespace;

/// Patience for one question.
const PATIENCE: Duration = Duration::from_secs(5);
const QUESTION: u16 = 0x4657;
const HEADER: usize = 12;
const IN: u16 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// A name of an address.
    Ptr,
    /// An IPv6 address.
    Aaaa,
    /// Host and port of a service.
    Srv,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Record {
    /// Of A and AAAA.
    Address(IpAddr),
    /// Of PTR.
    Name(String),
    /// Of SRV.
    Service {
        /// Where it is.
        host: String,
        /// At which port.
        port: u16,
    },
}

impl Kind {
    /// The kind that holds addresses of a family.
    pub const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self::A,
            Family::V6 => Self::Aaaa,
        }
    }

    const fn code(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ptr => 12,
            Self::Aaaa => 28,
            Self::Srv => 33,
        }
    }
}

/// Asks `server` from `namespace`; the answers are sorted.
///
/// # Errors
/// Where nobody answers in time, or the name is not known.
pub async fn ask(namespace: &Namespace, server: SocketAddr, name: &str, kind: Kind) -> Result<Vec<Record>> {
    let what = || format!("{}: {kind:?} {name} of {server}", namespace.name());
    let socket = namespace.udp_towards(server.ip())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(server).await?;
    socket.send(&question(name, kind)).await.with_context(what)?;
    let mut answer = vec![0; 4096];
    let received = timeout(PATIENCE, socket.recv(&mut answer)).await;
    let length = received.with_context(|| format!("{} was not answered within {PATIENCE:?}", what()))?;
    let length = length.with_context(what)?;
    read(&answer[..length], kind).with_context(what)
}

fn question(name: &str, kind: Kind) -> Vec<u8> {
    let mut message = Vec::new();
    // One question, recursion desired.
    for field in [QUESTION, 0x0100, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    for label in name.trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.code().to_be_bytes());
    message.extend(IN.to_be_bytes());
    message
}

fn read(message: &[u8], kind: Kind) -> Result<Vec<Record>> {
    ensure!(word(message, 0)? == QUESTION, "the answer is to another question");
    match message.get(3).context("cut short")? & 0x0f {
        0 => {}
        3 => bail!("there is no such name (NXDOMAIN)"),
        code => bail!("the server failed with code {code}"),
    }
    let mut at = HEADER;
    for _ in 0..word(message, 4)? {
        at = name(message, at)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..word(message, 6)? {
        let data = name(message, at)?.1 + 10;
        let length = usize::from(word(message, data - 2)?);
        if word(message, data - 10)? == kind.code() {
            records.push(record(message, data, length, kind)?);
        }
        at = data + length;
    }
    records.sort();
    Ok(records)
}

fn record(message: &[u8], at: usize, length: usize, kind: Kind) -> Result<Record> {
    let data = message.get(at..at + length).context("cut short")?;
    Ok(match kind {
        Kind::A => Record::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data)?).into()),
        Kind::Aaaa => Record::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data)?).into()),
        Kind::Ptr => Record::Name(name(message, at)?.0),
        Kind::Srv => Record::Service { host: name(message, at + 6)?.0, port: word(message, at + 4)? },
    })
}

/// The name at `at`, and where it ends; each pointer leads further back, so that it comes to an end.
fn name(message: &[u8], at: usize) -> Result<(String, usize)> {
    let (mut labels, mut place, mut end, mut limit) = (Vec::new(), at, None, at);
    loop {
        let length = *message.get(place).context("cut short")?;
        match length {
            0 => return Ok((labels.join("."), end.unwrap_or(place + 1))),
            1..=63 => {
                let label = message.get(place + 1..place + 1 + usize::from(length)).context("cut short")?;
                labels.push(String::from_utf8_lossy(label).into_owned());
                place += 1 + usize::from(length);
            }
            _ => {
                let to = usize::from(word(message, place)? & 0x3fff);
                ensure!(to < limit, "a name does not point back");
                end = end.or(Some(place + 2));
                (place, limit) = (to, to);
            }
        }
    }
}

fn word(message: &[u8], at: usize) -> Result<u16> {
    let bytes = message.get(at..at + 2).context("cut short")?;
    Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer to `question` with one record, whose name is a pointer to the question's.
    fn answer(kind: Kind, data: &[u8]) -> Vec<u8> {
        let mut message = question("web.lab", kind);
        message[2] = 0x80;
        message[7] = 1;
        message.extend([0xc0, 12]);
        message.extend(kind.code().to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 5]);
        message.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
        message.extend(data);
        message
    }

    #[test]
    fn reads_each_kind_of_record() {
        let v4 = read(&answer(Kind::A, &[10, 0, 0, 1]), Kind::A).expect("readable");
        assert_eq!(v4, [Record::Address("10.0.0.1".parse().unwrap())]);
        let host = [0, 0, 0, 9, 0x1f, 0x90, 1, b'p', 0xc0, 12];
        let srv = read(&answer(Kind::Srv, &host), Kind::Srv).expect("readable");
        assert_eq!(srv, [Record::Service { host: "p.web.lab".to_owned(), port: 8080 }]);
        assert_eq!(read(&answer(Kind::A, &[10, 0, 0, 1]), Kind::Aaaa).expect("readable"), []);
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_an_error() {
        let whole = answer(Kind::A, &[10, 0, 0, 1]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length], Kind::A).is_err(), "{length} bytes were taken for an answer");
        }
        let mut endless = question("web.lab", Kind::A);
        endless.truncate(16);
        endless.extend([0xc0, 12]);
        assert!(read(&endless, Kind::A).is_err(), "a name that leads to itself has an end");
        let mut unknown = whole;
        unknown[3] = 3;
        let error = read(&unknown, Kind::A).expect_err("NXDOMAIN");
        assert!(error.to_string().contains("no such name"), "{error}");
    }
}
