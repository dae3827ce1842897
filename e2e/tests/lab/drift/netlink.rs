//! A plain netlink socket in one namespace: the foreign hand, and the eye that watches.
//!
//! Owns requests, acks and whole dumps. Knows nothing of the agent's own netlink code, which is what is tested.

use std::cell::Cell;

use anyhow::{Context, Result, bail, ensure};
use netlink_sys::{Socket, SocketAddr};
use weft_e2e::lab::Namespace;

/// NETLINK_ROUTE and NETLINK_NETFILTER.
pub(crate) const ROUTE: isize = 0;
pub(crate) const NETFILTER: isize = 12;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const APPEND: u16 = 0x800;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// NLM_F_DUMP_INTR: what was dumped changed meanwhile.
const INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// NFNL_MSG_BATCH_BEGIN and _END, for subsystem 10 (nf_tables).
const BEGIN: u16 = 16;
const END: u16 = 17;
const BATCH: [u8; 4] = [0, 0, 0, 10];
/// Messages in one datagram of a burst.
const AT_ONCE: usize = 512;

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
}

/// The socket.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: Cell<u32>,
}

struct Frame<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Netlink {
    pub(crate) fn open(net: &Namespace, protocol: isize) -> Result<Self> {
        let socket = net.enter(move || -> std::io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        });
        Ok(Self { socket: socket.context("no netlink socket")?, sequence: Cell::new(0) })
    }

    /// All objects of a kind. Fails where the dump was interrupted or refused.
    pub(crate) fn dump(&self, kind: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut bytes = Vec::new();
        let sequence = self.frame(&mut bytes, kind, REQUEST | DUMP, payload);
        self.socket.send(&bytes, 0)?;
        let (mut found, mut whole) = (Vec::new(), true);
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for frame in frames(&datagram).filter(|frame| frame.sequence == sequence) {
                whole &= frame.flags & INTERRUPTED == 0;
                match frame.kind {
                    ERROR | DONE => {
                        let errno = errno(frame.payload);
                        ensure!(errno == 0, "dump {kind} was refused: {}", os(errno));
                        ensure!(whole, "dump {kind} was interrupted");
                        return Ok(found);
                    }
                    _ => found.push(frame.payload.to_vec()),
                }
            }
        }
    }

    /// Carries out changes one after the other in one system call, so that hardly anybody gets in between.
    pub(crate) fn ask(&self, requests: &[Request]) -> Result<()> {
        let mut bytes = Vec::new();
        let mut open = Vec::new();
        for request in requests {
            open.push(self.frame(&mut bytes, request.kind, REQUEST | ACK | request.flags, &request.payload));
        }
        self.socket.send(&bytes, 0)?;
        let mut refused = None;
        while !open.is_empty() {
            let (datagram, _) = self.socket.recv_from_full()?;
            for frame in frames(&datagram).filter(|frame| frame.kind == ERROR) {
                let Some(at) = open.iter().position(|sequence| *sequence == frame.sequence) else { continue };
                open.remove(at);
                let errno = errno(frame.payload);
                if errno != 0 {
                    refused.get_or_insert((frame.sequence, errno));
                }
            }
        }
        match refused {
            Some((_, errno)) => bail!("a foreign change was refused: {}", os(errno)),
            None => Ok(()),
        }
    }

    /// An nf_tables transaction.
    pub(crate) fn transact(&self, requests: &[Request]) -> Result<()> {
        let mut bytes = Vec::new();
        self.frame(&mut bytes, BEGIN, REQUEST, &BATCH);
        let mut last = 0;
        for (index, request) in requests.iter().enumerate() {
            let ack = if index + 1 == requests.len() { ACK } else { 0 };
            last = self.frame(&mut bytes, request.kind, REQUEST | ack | request.flags, &request.payload);
        }
        self.frame(&mut bytes, END, REQUEST, &BATCH);
        self.socket.send(&bytes, 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for frame in frames(&datagram).filter(|frame| frame.kind == ERROR) {
                let errno = errno(frame.payload);
                ensure!(errno == 0, "a foreign transaction was refused: {}", os(errno));
                if frame.sequence == last {
                    return Ok(());
                }
            }
        }
    }

    /// A flood of changes; only the last of each datagram is acknowledged.
    pub(crate) fn burst(&self, requests: impl Iterator<Item = Request>) -> Result<()> {
        let mut waiting: Vec<Request> = Vec::new();
        let mut requests = requests.peekable();
        while let Some(request) = requests.next() {
            waiting.push(request);
            if waiting.len() == AT_ONCE || requests.peek().is_none() {
                self.flush(&std::mem::take(&mut waiting))?;
            }
        }
        Ok(())
    }

    fn flush(&self, requests: &[Request]) -> Result<()> {
        let Some((last, others)) = requests.split_last() else { return Ok(()) };
        let mut bytes = Vec::new();
        for request in others {
            self.frame(&mut bytes, request.kind, REQUEST | request.flags, &request.payload);
        }
        let sequence = self.frame(&mut bytes, last.kind, REQUEST | ACK | last.flags, &last.payload);
        self.socket.send(&bytes, 0)?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for frame in frames(&datagram).filter(|frame| frame.kind == ERROR) {
                let errno = errno(frame.payload);
                ensure!(errno == 0, "a change of a flood was refused: {}", os(errno));
                if frame.sequence == sequence {
                    return Ok(());
                }
            }
        }
    }

    fn frame(&self, bytes: &mut Vec<u8>, kind: u16, flags: u16, payload: &[u8]) -> u32 {
        let sequence = self.sequence.get() + 1;
        self.sequence.set(sequence);
        let length = u32::try_from(HEADER + payload.len()).expect("what tests send is short");
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        sequence
    }
}

fn frames(datagram: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let word = |at: usize| rest.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let half = |at: usize| rest.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
        let length = usize::try_from(word(0)?).ok()?;
        let payload = rest.get(HEADER..length)?;
        let frame = Frame { kind: half(4)?, flags: half(6)?, sequence: word(8)?, payload };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(frame)
    })
}

/// The positive error number of an NLMSG_ERROR or NLMSG_DONE.
fn errno(payload: &[u8]) -> i32 {
    payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, |bytes| -i32::from_ne_bytes(bytes))
}

fn os(errno: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno)
}
