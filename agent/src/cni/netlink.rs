//! A small blocking rtnetlink client: batches with acks, single gets, dumps.
//!
//! The plugin lives for milliseconds and asks for a dozen things: a socket and a buffer do. Owns framing, acks and
//! their limits of time; must never decide what to send.

pub(crate) mod messages;

use std::{
    io,
    time::{Duration, Instant},
};

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{RouteNetlinkMessage, link::LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

/// The longest wait for the kernel; it answers in microseconds unless another holder of its lock does not let go.
const LIMIT: Duration = Duration::from_secs(10);
/// An interrupted dump is repeated so often.
const TRIES: usize = 10;

/// "No such device".
pub(crate) const ENODEV: i32 = 19;
/// "File exists".
pub(crate) const EEXIST: i32 = 17;

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {message}")]
pub(crate) struct NetlinkError {
    /// What was to be done.
    what: String,
    /// What the kernel said.
    message: String,
    /// Its error number, positive; 0 where the kernel did not answer.
    pub(crate) errno: i32,
}

/// One request of a batch.
#[derive(Debug)]
pub(crate) struct Request {
    /// What it does, for errors.
    pub(crate) what: String,
    /// The message.
    pub(crate) message: RouteNetlinkMessage,
    /// Flags beside REQUEST and ACK.
    pub(crate) flags: u16,
}

/// A socket in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            set_socket_timeout(&socket, Timeout::Recv, Some(LIMIT))?;
            // Both only make errors readable.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            Ok(socket)
        };
        open().map(|socket| Self { socket, sequence: 0 }).map_err(|error| failed("netlink socket", &error))
    }

    /// Sends all requests at once. The kernel tries each of them; the first failure is returned.
    pub(crate) fn batch(&mut self, requests: Vec<Request>) -> Result<(), NetlinkError> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        let mut whats = Vec::with_capacity(requests.len());
        for request in requests {
            self.sequence += 1;
            append(request.message, NLM_F_REQUEST | NLM_F_ACK | request.flags, self.sequence, &mut bytes);
            whats.push(request.what);
        }
        let all = whats.join(", ");
        self.socket.send(&bytes, 0).map_err(|error| failed(&all, &error))?;
        let mut outcome = Ok(());
        let mut missing = whats.len();
        while missing > 0 {
            for message in self.receive(&all)? {
                let NetlinkPayload::Error(answer) = message.payload else { continue };
                let Some(what) =
                    message.header.sequence_number.checked_sub(first).and_then(|at| whats.get(at as usize))
                else {
                    continue;
                };
                missing -= 1;
                if answer.code.is_some() && outcome.is_ok() {
                    outcome = Err(refused(what, &answer));
                }
            }
        }
        outcome
    }

    /// Sends one request.
    pub(crate) fn one(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.batch(vec![request])
    }

    /// Looks a link up by name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<LinkMessage>, NetlinkError> {
        let what = format!("look up interface {name}");
        let request = RouteNetlinkMessage::GetLink(messages::named(name));
        self.sequence += 1;
        let mut bytes = Vec::new();
        append(request, NLM_F_REQUEST, self.sequence, &mut bytes);
        self.socket.send(&bytes, 0).map_err(|error| failed(&what, &error))?;
        loop {
            for message in self.receive(&what)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => return Ok(Some(link)),
                    NetlinkPayload::Error(answer) if answer.raw_code() == -ENODEV => return Ok(None),
                    NetlinkPayload::Error(answer) => return Err(refused(&what, &answer)),
                    _ => {}
                }
            }
        }
    }

    /// Dumps; whole or an error.
    pub(crate) fn dump(
        &mut self,
        what: &str,
        request: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..TRIES {
            if let Some(all) = self.dump_once(what, request.clone())? {
                return Ok(all);
            }
        }
        Err(failed(what, &io::Error::other("the kernel's list changed all the time while it was read")))
    }

    /// None where the dump was interrupted.
    fn dump_once(
        &mut self,
        what: &str,
        request: RouteNetlinkMessage,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>, NetlinkError> {
        self.sequence += 1;
        let mut bytes = Vec::new();
        append(request, NLM_F_REQUEST | NLM_F_DUMP, self.sequence, &mut bytes);
        self.socket.send(&bytes, 0).map_err(|error| failed(what, &error))?;
        let (mut all, mut whole) = (Vec::new(), true);
        loop {
            for message in self.receive(what)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                whole &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => all.push(inner),
                    NetlinkPayload::Error(answer) => return Err(refused(what, &answer)),
                    NetlinkPayload::Done(done) if done.code != 0 => {
                        return Err(failed(what, &io::Error::from_raw_os_error(-done.code)));
                    }
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(all)),
                    _ => {}
                }
            }
        }
    }

    /// One datagram's messages.
    fn receive(&self, what: &str) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        let started = Instant::now();
        let (bytes, _) = loop {
            match self.socket.recv_from_full() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && started.elapsed() < LIMIT => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(failed(what, &io::Error::other("the kernel did not answer within 10 s")));
                }
                other => break other.map_err(|error| failed(what, &error))?,
            }
        };
        let mut messages = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| failed(what, &io::Error::other(error.to_string())))?;
            let length = (message.header.length as usize).next_multiple_of(4).min(rest.len());
            if length == 0 {
                break;
            }
            rest = &rest[length..];
            messages.push(message);
        }
        Ok(messages)
    }
}

fn append(message: RouteNetlinkMessage, flags: u16, sequence: u32, to: &mut Vec<u8>) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = to.len();
    to.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut to[start..]);
}

fn failed(what: &str, error: &io::Error) -> NetlinkError {
    NetlinkError { what: what.to_owned(), message: error.to_string(), errno: error.raw_os_error().unwrap_or(0) }
}

fn refused(what: &str, answer: &ErrorMessage) -> NetlinkError {
    let error = answer.to_io();
    let message = match explanation(&answer.header) {
        Some(text) => format!("{text} ({error})"),
        None => error.to_string(),
    };
    NetlinkError { what: what.to_owned(), message, errno: answer.raw_code().abs() }
}

/// `NLMSGERR_ATTR_MSG` behind the echoed header (capped: `NETLINK_CAP_ACK` is on): the kernel's reason in words.
fn explanation(payload: &[u8]) -> Option<String> {
    let mut rest = payload.get(16..)?;
    while let [low, high, kind, kind_high, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([kind, kind_high]) & 0x3fff == 1 {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}
