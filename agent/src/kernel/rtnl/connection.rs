//! A netlink socket for requests: batches with an acknowledgement for every message, and dumps that are whole.
//!
//! Drives the socket itself rather than through netlink-proto: rtnetlink answers within the very `sendmsg` that carries
//! the request, so one task that sends a batch and then reads until every sequence number is accounted for needs no second
//! task, no channel and no allocation for each message; and the dump's DONE code, its interruption flag and the extended
//! acks are all in sight. Must never take an answer for complete that is not: a lost, late or cut one is
//! [`KernelError::Incomplete`], after which the socket is replaced, because answers of old requests may still arrive on it.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN,
    NetlinkHeader, NetlinkSerializable,
};
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use rustix::net::sockopt;

use super::wire::{Frame, HEADER, Refusal, frames};
use crate::kernel::KernelError;

/// Messages of a batch: more would let acks overflow the default receive buffer.
pub(super) const BATCH: usize = 128;
/// How long the kernel may take for the next answer. Requests queue behind whoever holds the RTNL lock, which takes up to
/// half a second when a large namespace goes.
const PATIENCE: Duration = Duration::from_secs(10);
/// Wanted receive buffer in bytes.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel fills dumps up to 32 KiB a datagram if the reader offers as much; single large messages may be longer.
const DATAGRAM: usize = 64 << 10;
/// How often an interrupted dump is taken again.
const ATTEMPTS: usize = 8;

/// What became of each message of a batch.
pub(crate) type Outcomes = Vec<Option<Refusal>>;

/// Messages to send at once. Sequence numbers are relative until sent.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Batch {
    /// Adds a message; `flags` in addition to NLM_F_REQUEST.
    pub(crate) fn push(&mut self, flags: u16, message: &impl NetlinkSerializable) {
        let start = self.bytes.len();
        let length = HEADER + message.buffer_len();
        self.starts.push(start);
        self.bytes.resize(start + length.next_multiple_of(4), 0);
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(length).expect("a request is a few hundred bytes");
        header.message_type = message.message_type();
        header.flags = NLM_F_REQUEST | flags;
        header.emit(&mut self.bytes[start..]);
        message.serialize(&mut self.bytes[start + HEADER..start + length]);
    }

    /// Messages in it.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// True where nothing was pushed.
    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Forgets the messages and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// The messages as the kernel takes them, numbered from `first` on.
    pub(crate) fn numbered(&mut self, first: u32) -> &[u8] {
        for (index, start) in (0_u32..).zip(&self.starts) {
            self.bytes[start + 8..start + 12].copy_from_slice(&first.wrapping_add(index).to_ne_bytes());
        }
        &self.bytes
    }
}

/// A part of a dump.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    /// An object.
    Object(&'a [u8]),
    /// The dump was interrupted and starts again: forget what came.
    Again,
}

/// Opens a socket in the network namespace of the calling thread, bound and with all options set.
pub(super) fn socket() -> Result<TokioSocket, KernelError> {
    let failed = |source| KernelError::Io { object: "rtnetlink socket".to_owned(), source };
    let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(failed)?;
    let inner = socket.socket_mut();
    inner.bind_auto().map_err(failed)?;
    inner.set_ext_ack(true).map_err(failed)?;
    inner.set_cap_ack(true).map_err(failed)?;
    inner.set_netlink_get_strict_chk(true).map_err(failed)?;
    widen(inner).map_err(failed)?;
    Ok(socket)
}

/// Asks for a large receive buffer; beyond the system's limit only where we may.
fn widen(socket: &netlink_sys::Socket) -> io::Result<()> {
    // SAFETY: `socket` owns the descriptor and outlives this borrow of it.
    #[allow(unsafe_code)]
    let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    sockopt::set_socket_recv_buffer_size_force(fd, RECEIVE_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, RECEIVE_BUFFER))?;
    Ok(())
}

/// The port id of a bound socket.
fn port_of(socket: &TokioSocket) -> io::Result<u32> {
    let mut address = SocketAddr::new(0, 0);
    socket.socket_ref().get_address(&mut address)?;
    Ok(address.port_number())
}

/// A socket for requests. It answers one batch or dump at a time.
pub(crate) struct Connection {
    socket: TokioSocket,
    port: Arc<AtomicU32>,
    sequence: u32,
    received: Vec<u8>,
}

impl Connection {
    /// Opens a connection; inside a runtime.
    pub(crate) fn open() -> Result<Self, KernelError> {
        let socket = socket()?;
        let port = port_of(&socket).map_err(|source| KernelError::Io { object: "rtnetlink socket".into(), source })?;
        let port = Arc::new(AtomicU32::new(port));
        Ok(Self { socket, port, sequence: 1, received: Vec::with_capacity(DATAGRAM) })
    }

    /// A connection to whoever holds the other end of a socket that keeps datagrams apart.
    #[cfg(test)]
    pub(crate) fn over(socket: std::os::fd::OwnedFd) -> Self {
        use std::os::fd::{FromRawFd, IntoRawFd};
        // SAFETY: the descriptor is open and nobody else's.
        #[allow(unsafe_code)]
        let socket = unsafe { TokioSocket::from_raw_fd(socket.into_raw_fd()) };
        Self { socket, port: Arc::default(), sequence: 1, received: Vec::with_capacity(DATAGRAM) }
    }

    /// The port id that the kernel puts on notifications of what this connection caused; follows a reopening.
    pub(super) fn port(&self) -> Arc<AtomicU32> {
        self.port.clone()
    }

    /// Sends a batch of at most [`BATCH`] messages, all with NLM_F_ACK, and waits for all acks. Objects that come back
    /// (single gets) go to `on_object` with the index of their request.
    pub(crate) async fn exchange(
        &mut self,
        batch: &mut Batch,
        object: &str,
        mut on_object: impl FnMut(usize, &[u8]),
    ) -> Result<Outcomes, KernelError> {
        let result = self.try_exchange(batch, &mut on_object).await;
        self.checked(result, object)
    }

    async fn try_exchange(
        &mut self,
        batch: &mut Batch,
        on_object: &mut impl FnMut(usize, &[u8]),
    ) -> Result<Outcomes, Lost> {
        let count = batch.len();
        let mut outcomes: Outcomes = vec![None; count];
        let mut open = count;
        let first = self.take_sequences(count);
        self.send(batch.numbered(first)).await?;
        while open > 0 {
            self.receive().await?;
            for frame in frames(&self.received) {
                let frame = frame.ok_or(Lost::Cut)?;
                let index = usize::try_from(frame.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if index >= count {
                    continue;
                }
                match frame.kind {
                    NLMSG_ERROR => {
                        outcomes[index] = Refusal::read(&frame, false);
                        open -= 1;
                    }
                    NLMSG_OVERRUN => return Err(Lost::Overrun),
                    _ => on_object(index, frame.payload),
                }
            }
        }
        Ok(outcomes)
    }

    /// Dumps; `object` names what for errors. An interrupted dump is taken again.
    pub(crate) async fn dump(
        &mut self,
        message: &impl NetlinkSerializable,
        object: &str,
        mut sink: impl FnMut(Part<'_>),
    ) -> Result<(), KernelError> {
        for _ in 0..ATTEMPTS {
            let result = self.try_dump(message, &mut sink).await;
            match self.checked(result, object)? {
                Dumped::Whole => return Ok(()),
                Dumped::Refused(refusal) => return Err(refused(object, refusal)),
                Dumped::Interrupted => sink(Part::Again),
            }
        }
        let message = format!("it changed during each of {ATTEMPTS} readings; the next look tries again");
        Err(KernelError::Incomplete { object: object.to_owned(), message })
    }

    async fn try_dump(
        &mut self,
        message: &impl NetlinkSerializable,
        sink: &mut impl FnMut(Part<'_>),
    ) -> Result<Dumped, Lost> {
        let mut batch = Batch::default();
        batch.push(NLM_F_DUMP, message);
        let sequence = self.take_sequences(1);
        self.send(batch.numbered(sequence)).await?;
        let mut interrupted = false;
        loop {
            self.receive().await?;
            for frame in frames(&self.received) {
                let frame = frame.ok_or(Lost::Cut)?;
                if frame.sequence != sequence {
                    continue;
                }
                interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
                if let Some(end) = dump_end(&frame, interrupted)? {
                    return Ok(end);
                }
                sink(Part::Object(frame.payload));
            }
        }
    }

    fn take_sequences(&mut self, count: usize) -> u32 {
        let first = self.sequence;
        self.sequence = first.wrapping_add(u32::try_from(count).expect("a batch is small"));
        first
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), Lost> {
        let sent = tokio::time::timeout(PATIENCE, self.socket.send(bytes)).await.map_err(|_| Lost::Late)??;
        if sent == bytes.len() { Ok(()) } else { Err(Lost::Cut) }
    }

    async fn receive(&mut self) -> Result<(), Lost> {
        self.received.clear();
        tokio::time::timeout(PATIENCE, self.socket.recv(&mut self.received)).await.map_err(|_| Lost::Late)??;
        Ok(())
    }

    /// After anything lost the socket is replaced.
    fn checked<T>(&mut self, result: Result<T, Lost>, object: &str) -> Result<T, KernelError> {
        let lost = match result {
            Ok(value) => return Ok(value),
            Err(lost) => lost,
        };
        let fresh = Self::open()?;
        self.port.store(fresh.port.load(Ordering::Relaxed), Ordering::Relaxed);
        self.socket = fresh.socket;
        Err(KernelError::Incomplete { object: object.to_owned(), message: lost.to_string() })
    }
}

/// An error for a refused request.
pub(super) fn refused(object: &str, refusal: Refusal) -> KernelError {
    KernelError::Refused { object: object.to_owned(), message: refusal.message, errno: refusal.errno }
}

/// How a dump ended.
enum Dumped {
    Whole,
    Interrupted,
    Refused(Refusal),
}

fn dump_end(frame: &Frame<'_>, interrupted: bool) -> Result<Option<Dumped>, Lost> {
    let refusal = match frame.kind {
        NLMSG_DONE => Refusal::read(frame, true),
        NLMSG_ERROR => Some(Refusal::read(frame, false).ok_or(Lost::Cut)?),
        NLMSG_OVERRUN => return Err(Lost::Overrun),
        _ => return Ok(None),
    };
    Ok(Some(match refusal {
        Some(refusal) => Dumped::Refused(refusal),
        None if interrupted => Dumped::Interrupted,
        None => Dumped::Whole,
    }))
}

/// Why the answers are not all there.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("no answer within {} s; the request is repeated on a new socket", PATIENCE.as_secs())]
    Late,
    #[error("a message was cut short; the request is repeated on a new socket")]
    Cut,
    #[error("the kernel reports an overrun; the request is repeated on a new socket")]
    Overrun,
    #[error("the socket failed ({0}); the request is repeated on a new one")]
    Socket(#[from] io::Error),
}

/// Adds NLM_F_ACK to the flags of a modifying message.
pub(super) const fn acknowledged(flags: u16) -> u16 {
    flags | NLM_F_ACK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(kind: u16, code: i32, interrupted: bool) -> Result<Option<Dumped>, Lost> {
        let payload = code.to_ne_bytes();
        dump_end(&Frame { kind, flags: 0, sequence: 1, port: 1, payload: &payload }, interrupted)
    }

    #[test]
    fn a_dump_is_whole_only_when_its_end_says_so() {
        assert!(matches!(end(16, 0, false), Ok(None)), "an object is no end");
        assert!(matches!(end(NLMSG_DONE, 0, false), Ok(Some(Dumped::Whole))));
        assert!(matches!(end(NLMSG_DONE, 0, true), Ok(Some(Dumped::Interrupted))));
        assert!(matches!(end(NLMSG_DONE, -22, false), Ok(Some(Dumped::Refused(r))) if r.errno == 22));
        assert!(
            matches!(end(NLMSG_DONE, -22, true), Ok(Some(Dumped::Refused(_)))),
            "an error outweighs an interruption"
        );
        assert!(matches!(end(NLMSG_ERROR, -1, false), Ok(Some(Dumped::Refused(r))) if r.errno == 1));
        assert!(matches!(end(NLMSG_ERROR, 0, false), Err(Lost::Cut)), "an ack ends no dump");
        assert!(matches!(end(NLMSG_OVERRUN, 0, false), Err(Lost::Overrun)));
    }

    #[test]
    fn messages_of_a_batch_are_numbered_in_order() {
        let mut batch = Batch::default();
        for id in 1..=3 {
            batch.push(acknowledged(0), &crate::kernel::rtnl::nexthop::Request::Get(id));
        }
        let sequences: Vec<_> = frames(batch.numbered(u32::MAX)).map(|frame| frame.expect("whole").sequence).collect();
        assert_eq!(sequences, [u32::MAX, 0, 1]);
    }
}
