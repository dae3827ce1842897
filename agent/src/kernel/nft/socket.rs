//! A netlink socket to the netfilter subsystem: requests, dumps and transactions.
//!
//! nfnetlink works inside the system call that sends: when `send` returns, every answer (of a dump, its next part) is
//! in the receive queue. So nothing here waits, and an empty queue before the end means that answers were lost. Must
//! never take an incomplete answer for a whole one.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::{
    io::Errno,
    net::{RecvFlags, sockopt},
};

use super::wire::{
    ACK, ACK_TLVS, Attributes, CAPPED, DONE, DUMP, DUMP_INTERRUPTED, ERROR, FAMILY_HEADER, HEADER, Head, Malformed,
    Message, Parsed, Received, SUBSYSTEM, UNSPEC, messages,
};
use crate::kernel::rtnl::wire::meaning;

/// Room for transactions; 16 bytes an IPv4 and 28 an IPv6 element.
const SEND_BUFFER: usize = 16 << 20;
/// Room for answers.
const RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel fills parts of a dump up to 32 KiB when the reader offers that much.
const DATAGRAM: usize = 64 << 10;
/// What the kernel takes off the send buffer (`netlink_sendmsg`), with room to spare.
const SEND_MARGIN: usize = 4096;
/// `NFNL_MSG_BATCH_BEGIN`.
const BATCH_BEGIN: u16 = 16;
/// `NFNL_MSG_BATCH_END`.
const BATCH_END: u16 = 17;
/// `NFNL_BATCH_GENID`.
const BATCH_GENERATION: u16 = 1;
/// `NLMSGERR_ATTR_MSG`.
const ERROR_TEXT: u16 = 1;

/// Why a request had no answer that counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The kernel refused.
    #[error("{text} (errno {errno})")]
    Refused {
        /// The error number, positive.
        errno: i32,
        /// What the kernel said.
        text: String,
    },
    /// Something changed during the dump.
    #[error("the table changed while it was read")]
    Interrupted,
    /// Answers are missing.
    #[error("answers were lost")]
    Lost,
    /// The answer cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Fault {
    /// True where the kernel refused with this error.
    pub(super) fn is(&self, wanted: Errno) -> bool {
        matches!(self, Self::Refused { errno, .. } if *errno == wanted.raw_os_error())
    }
}

/// One object of an answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    /// `NFPROTO_…` of its table.
    pub(super) family: u8,
    attributes: Vec<u8>,
}

impl Reply {
    /// Its attributes.
    pub(super) fn attributes(&self) -> Result<Parsed<'_>, Malformed> {
        Parsed::new(&self.attributes)
    }
}

/// Messages of a transaction that the kernel refused, by index; none where it refused the whole.
pub(super) type Refusals = Vec<(Option<usize>, Fault)>;

/// The socket.
#[derive(Debug)]
pub(super) struct Netfilter {
    socket: Socket,
    port: u32,
    sequence: u32,
    limit: usize,
    buffer: Vec<u8>,
}

impl Netfilter {
    /// Opens a socket in the thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // Without these an error echoes the whole request and says nothing in words.
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        let limit = enlarge(&socket)?;
        Ok(Self { socket, port, sequence: 0, limit, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// The port id by which events name this socket.
    pub(super) fn port(&self) -> u32 {
        self.port
    }

    /// Bytes that one transaction can have.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Asks for all objects of a kind. An object that is missing makes some dumps fail with ENOENT.
    pub(super) fn dump(&mut self, kind: u16, family: u8, attributes: Attributes) -> Result<Vec<Reply>, Fault> {
        let sequence = self.ask(kind, DUMP, family, attributes)?;
        let mut replies = Vec::new();
        let mut interrupted = false;
        loop {
            self.receive()?;
            for message in messages(&self.buffer)?.into_iter().filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                match message.kind {
                    ERROR | DONE => {
                        refusal(&message)?;
                        // The kernel says that something changed as late as here, so that DONE alone proves nothing.
                        return if interrupted { Err(Fault::Interrupted) } else { Ok(replies) };
                    }
                    _ => replies.push(reply(&message)?),
                }
            }
        }
    }

    /// Asks for one object; none where the kernel has no such one.
    pub(super) fn get(&mut self, kind: u16, family: u8, attributes: Attributes) -> Result<Option<Reply>, Fault> {
        let sequence = self.ask(kind, ACK, family, attributes)?;
        let mut found = None;
        loop {
            self.receive()?;
            for message in messages(&self.buffer)?.into_iter().filter(|message| message.sequence == sequence) {
                if message.kind != ERROR {
                    found = Some(reply(&message)?);
                    continue;
                }
                match refusal(&message) {
                    Err(fault) if fault.is(Errno::NOENT) => return Ok(None),
                    Err(fault) => return Err(fault),
                    Ok(()) => return Ok(found),
                }
            }
        }
    }

    /// Carries out all messages or none. Where `generation` is given and no longer the kernel's, it refuses the whole
    /// with ERESTART.
    pub(super) fn transaction(&mut self, batch: &[Message], generation: Option<u32>) -> Result<(), Refusals> {
        let Some(last) = batch.len().checked_sub(1) else { return Ok(()) };
        let first = self.sequence.wrapping_add(2);
        let bytes = self.frame(batch, generation);
        let whole = |fault| vec![(None, fault)];
        self.send(&bytes).map_err(whole)?;

        let mut refusals = Refusals::new();
        let mut acknowledged = false;
        loop {
            match self.receive() {
                Ok(()) => {}
                Err(Fault::Lost) => break,
                Err(fault) => return Err(whole(fault)),
            }
            for message in messages(&self.buffer).map_err(|error| whole(error.into()))? {
                let index = usize::try_from(message.sequence.wrapping_sub(first)).ok().filter(|index| *index <= last);
                match refusal(&message) {
                    Ok(()) => acknowledged |= index == Some(last),
                    Err(fault) => refusals.push((index, fault)),
                }
            }
        }
        match (refusals.is_empty(), acknowledged) {
            (true, true) => Ok(()),
            (true, false) => Err(whole(Fault::Lost)),
            (false, _) => Err(refusals),
        }
    }

    /// The messages between the ends of a batch. Only the last one asks for an ack: errors come in any case, and all
    /// answers of a batch are delivered together, after it.
    fn frame(&mut self, batch: &[Message], generation: Option<u32>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(batch.iter().map(Message::len).sum::<usize>() + 64);
        let end = |kind| Head { kind, flags: 0, family: UNSPEC, resource: SUBSYSTEM };
        let begin = generation.map_or_else(Attributes::new, |id| Attributes::new().number(BATCH_GENERATION, id));
        end(BATCH_BEGIN).write(&mut bytes, self.next(), begin.as_bytes());
        for (index, message) in batch.iter().enumerate() {
            let flags = if index + 1 == batch.len() { ACK } else { 0 };
            message.write(&mut bytes, flags, self.next());
        }
        end(BATCH_END).write(&mut bytes, self.next(), &[]);
        bytes
    }

    fn ask(&mut self, kind: u16, flags: u16, family: u8, attributes: Attributes) -> Result<u32, Fault> {
        let sequence = self.next();
        let mut bytes = Vec::new();
        Message { kind, flags, family, attributes, keys: Vec::new() }.write(&mut bytes, 0, sequence);
        self.send(&bytes)?;
        Ok(sequence)
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends, after throwing away whatever an earlier request left behind.
    fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        while self.receive().is_ok() {}
        self.socket.send(bytes, 0)?;
        Ok(())
    }

    /// Takes one datagram into the buffer.
    fn receive(&mut self) -> Result<(), Fault> {
        self.buffer.clear();
        let flags = i32::try_from(RecvFlags::TRUNC.bits()).expect("a small flag");
        match self.socket.recv(&mut self.buffer, flags) {
            Ok(length) if length == self.buffer.len() => Ok(()),
            Ok(_) => Err(Fault::Lost),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Fault::Lost),
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => Err(Fault::Lost),
            Err(error) => Err(error.into()),
        }
    }
}

/// Gives the socket large buffers, beyond the system's limit where we may, and says how much can be sent at once.
fn enlarge(socket: &Socket) -> io::Result<usize> {
    enlarge_receiving(socket)?;
    let fd = borrow(socket);
    if sockopt::set_socket_send_buffer_size_force(fd, SEND_BUFFER).is_err() {
        sockopt::set_socket_send_buffer_size(fd, SEND_BUFFER)?;
    }
    Ok(sockopt::socket_send_buffer_size(fd)?.saturating_sub(SEND_MARGIN))
}

/// The same for the receive buffer alone.
pub(super) fn enlarge_receiving(socket: &Socket) -> io::Result<()> {
    let fd = borrow(socket);
    if sockopt::set_socket_recv_buffer_size_force(fd, RECEIVE_BUFFER).is_err() {
        sockopt::set_socket_recv_buffer_size(fd, RECEIVE_BUFFER)?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn borrow(socket: &Socket) -> std::os::fd::BorrowedFd<'_> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open as long as `socket` lives, and the result borrows `socket`.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

fn reply(message: &Received<'_>) -> Result<Reply, Malformed> {
    let (header, attributes) = message.payload.split_at_checked(FAMILY_HEADER).ok_or(Malformed)?;
    Ok(Reply { family: header[0], attributes: attributes.to_vec() })
}

/// Reads an NLMSG_ERROR or NLMSG_DONE: both begin with an error number.
fn refusal(message: &Received<'_>) -> Result<(), Fault> {
    let code = message.payload.first_chunk().copied().map_or(0, i32::from_ne_bytes);
    if code == 0 {
        return Ok(());
    }
    let errno = code.wrapping_neg();
    let text = extended(message).unwrap_or_else(|| meaning(errno));
    Err(Fault::Refused { errno, text })
}

/// The kernel's own words, where it has some.
fn extended(message: &Received<'_>) -> Option<String> {
    if message.flags & ACK_TLVS == 0 {
        return None;
    }
    let echoed = message.payload.get(4..)?;
    let request = usize::try_from(u32::from_ne_bytes(*echoed.first_chunk()?)).ok()?.next_multiple_of(4);
    let skip = match message.kind {
        DONE => 0,
        _ if message.flags & CAPPED != 0 => HEADER,
        _ => request,
    };
    Parsed::new(echoed.get(skip..)?).ok()?.text(ERROR_TEXT)
}
