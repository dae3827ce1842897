//! A small blocking rtnetlink client: batches with acks, single gets, dumps.
//!
//! The plugin lives for milliseconds and asks for a dozen things, and a thread inside a pod's namespace for fewer: a socket
//! and a buffer do. Owns sending, acks and their limits of time; frames and links are read as everywhere, so that a strange
//! link of the host is passed over. Must never decide what to send.

use std::{
    io,
    time::{Duration, Instant},
};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::messages;
use crate::kernel::rtnl::{
    connection::Batch,
    link::Link,
    wire::{Frame, Refusal, frames},
};

/// The longest wait for the kernel; it answers in microseconds unless another holder of its lock does not let go.
const LIMIT: Duration = Duration::from_secs(10);
/// An interrupted dump is repeated so often.
const TRIES: usize = 10;

/// "No such device".
pub(crate) const ENODEV: i32 = 19;
/// "File exists".
pub(super) const EEXIST: i32 = 17;

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
    pub(super) what: String,
    /// The message.
    pub(super) message: RouteNetlinkMessage,
    /// Flags beside REQUEST and ACK.
    pub(super) flags: u16,
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
    pub(crate) fn batch(&mut self, requests: &[Request]) -> Result<(), NetlinkError> {
        let whats: Vec<_> = requests.iter().map(|request| request.what.as_str()).collect();
        let all = whats.join(", ");
        let mut batch = Batch::default();
        requests.iter().for_each(|request| batch.push(NLM_F_ACK | request.flags, &request.message));
        let first = self.send(batch, &all)?;
        let mut outcome = Ok(());
        let mut missing = whats.len();
        while missing > 0 {
            for frame in frames(&self.receive(&all)?) {
                let frame = frame.ok_or_else(|| cut(&all))?;
                let what = frame.sequence.checked_sub(first).and_then(|at| whats.get(at as usize));
                let (NLMSG_ERROR, Some(what)) = (frame.kind, what) else { continue };
                missing -= 1;
                if let Some(refusal) = Refusal::read(&frame, false)
                    && outcome.is_ok()
                {
                    outcome = Err(refused(what, &refusal));
                }
            }
        }
        outcome
    }

    /// Sends one request.
    pub(crate) fn one(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.batch(&[request])
    }

    /// Looks a link up by name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let what = format!("look up interface {name}");
        let mut batch = Batch::default();
        batch.push(0, &RouteNetlinkMessage::GetLink(messages::named(name)));
        let sequence = self.send(batch, &what)?;
        loop {
            for frame in frames(&self.receive(&what)?) {
                let frame = frame.ok_or_else(|| cut(&what))?;
                if frame.sequence != sequence {
                    continue;
                }
                if frame.kind != NLMSG_ERROR {
                    return Ok(Link::read(frame.payload));
                }
                match Refusal::read(&frame, false) {
                    Some(refusal) if refusal.errno == ENODEV => return Ok(None),
                    Some(refusal) => return Err(refused(&what, &refusal)),
                    None => {}
                }
            }
        }
    }

    /// Dumps, whole or an error: the objects' messages without their netlink headers.
    pub(crate) fn dump(&mut self, what: &str, request: &RouteNetlinkMessage) -> Result<Vec<Vec<u8>>, NetlinkError> {
        for _ in 0..TRIES {
            if let Some(all) = self.dump_once(what, request)? {
                return Ok(all);
            }
        }
        Err(failed(what, &io::Error::other("the kernel's list changed all the time while it was read")))
    }

    /// None where the dump was interrupted.
    fn dump_once(&mut self, what: &str, request: &RouteNetlinkMessage) -> Result<Option<Vec<Vec<u8>>>, NetlinkError> {
        let mut batch = Batch::default();
        batch.push(NLM_F_DUMP, request);
        let sequence = self.send(batch, what)?;
        let (mut all, mut whole) = (Vec::new(), true);
        loop {
            for frame in frames(&self.receive(what)?) {
                let frame = frame.ok_or_else(|| cut(what))?;
                if frame.sequence != sequence {
                    continue;
                }
                whole &= frame.flags & NLM_F_DUMP_INTR == 0;
                match (frame.kind, refusal_of(&frame)) {
                    (_, Some(refusal)) => return Err(refused(what, &refusal)),
                    (NLMSG_DONE, None) => return Ok(whole.then_some(all)),
                    (NLMSG_ERROR, None) => {}
                    _ => all.push(frame.payload.to_vec()),
                }
            }
        }
    }

    /// Sends a batch; the sequence number of its first message.
    fn send(&mut self, mut batch: Batch, what: &str) -> Result<u32, NetlinkError> {
        let first = self.sequence + 1;
        self.sequence += u32::try_from(batch.len()).expect("a batch is small");
        self.socket.send(batch.numbered(first), 0).map_err(|error| failed(what, &error))?;
        Ok(first)
    }

    /// One datagram.
    fn receive(&self, what: &str) -> Result<Vec<u8>, NetlinkError> {
        let started = Instant::now();
        loop {
            match self.socket.recv_from_full() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && started.elapsed() < LIMIT => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(failed(what, &io::Error::other("the kernel did not answer within 10 s")));
                }
                other => return other.map(|(bytes, _)| bytes).map_err(|error| failed(what, &error)),
            }
        }
    }
}

fn refusal_of(frame: &Frame<'_>) -> Option<Refusal> {
    matches!(frame.kind, NLMSG_DONE | NLMSG_ERROR).then(|| Refusal::read(frame, frame.kind == NLMSG_DONE)).flatten()
}

fn failed(what: &str, error: &io::Error) -> NetlinkError {
    NetlinkError { what: what.to_owned(), message: error.to_string(), errno: error.raw_os_error().unwrap_or(0) }
}

fn cut(what: &str) -> NetlinkError {
    failed(what, &io::Error::other("the kernel's answer was cut short"))
}

fn refused(what: &str, refusal: &Refusal) -> NetlinkError {
    let error = io::Error::from_raw_os_error(refusal.errno);
    let message = match refusal.explained {
        true => format!("{} ({error})", refusal.message),
        false => error.to_string(),
    };
    NetlinkError { what: what.to_owned(), message, errno: refusal.errno }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

    use netlink_packet_core::NetlinkMessage;
    use netlink_packet_route::link::LinkMessage;
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

    use super::*;
    use crate::kernel::rtnl::wire::made::{attribute, frame};

    const RTM_NEWLINK: u16 = 16;

    /// A client, and who holds the other end of its socket.
    fn client() -> (Netlink, OwnedFd) {
        let (ours, kernels) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
        // SAFETY: the descriptor is open and nobody else's.
        #[allow(unsafe_code)]
        let socket = unsafe { Socket::from_raw_fd(ours.into_raw_fd()) };
        (Netlink { socket, sequence: 0 }, kernels)
    }

    /// A link of one attribute beside its name.
    fn link(index: u32, name: &[u8; 4], kind: u16, value: &[u8]) -> Vec<u8> {
        let header = [[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat();
        frame(RTM_NEWLINK, 0, 1, &[header, attribute(3, name), attribute(kind, value)].concat())
    }

    #[test]
    fn a_strange_link_of_the_host_hides_no_other() {
        let (mut netlink, kernel) = client();
        // IFLA_MTU of two octets, which the packet crate refuses, beside an IFLA_ADDRESS that is no Ethernet address.
        let strange = link(2, b"odd\0", 4, &[1, 2]);
        let refused = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&strange);
        assert!(refused.is_err(), "{refused:?}");
        let datagram = [link(1, b"one\0", 1, &[2; 20]), strange, link(3, b"two\0", 4, &1450_u32.to_ne_bytes())];
        let done = frame(NLMSG_DONE, 0, 1, &[0; 4]);
        send(&kernel, &[datagram.concat(), done].concat(), SendFlags::empty()).expect("sent");
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let dump = netlink.dump("list the host's interfaces", &request).expect("whole");
        let names: Vec<_> = dump.iter().filter_map(|payload| Link::read(payload)).map(|link| link.name).collect();
        assert_eq!(names.iter().map(weft_core::types::LinkName::as_str).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn an_answer_that_was_cut_is_no_answer() {
        let (mut netlink, kernel) = client();
        let cut = link(1, b"one\0", 4, &1450_u32.to_ne_bytes());
        send(&kernel, &cut[..cut.len() - 4], SendFlags::empty()).expect("sent");
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let error = netlink.dump("list the host's interfaces", &request).expect_err("cut");
        assert_eq!(error.to_string(), "list the host's interfaces: the kernel's answer was cut short");
    }
}
