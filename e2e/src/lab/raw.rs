//! Raw packet sockets: what an interface sees, and frames put on it.
//!
//! Owns AF_PACKET (packet(7)); must never interpret frames.

use std::{io, os::fd::OwnedFd};

use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, bind, netdevice::name_to_index,
        recvfrom, send, socket_with, sockopt::set_socket_recv_buffer_size,
    },
};

use super::{Namespace, packet::Direction};

/// Bytes of queue asked for; the kernel grants at most net.core.rmem_max, doubled.
const QUEUE: usize = 4 << 20;

/// A socket on one interface of one namespace.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    place: String,
}

impl PacketSocket {
    /// Opens it; it receives every frame that passes `link` in either direction.
    ///
    /// # Errors
    /// Where there is no such link, or the kernel refuses.
    pub fn open(namespace: &Namespace, link: &str) -> Result<Self> {
        let place = format!("{}/{link}", namespace.name());
        let link = link.to_owned();
        let fd =
            namespace.enter(move || open(&link)).with_context(|| format!("cannot open a packet socket on {place}"))?;
        Ok(Self { fd, place })
    }

    /// `NAMESPACE/LINK`, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The next frame that waits, cut to the buffer's length; none where the queue is empty.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<(&'b [u8], Direction)> {
        let (length, _, from) = recvfrom(&self.fd, &mut *buffer, RecvFlags::DONTWAIT | RecvFlags::TRUNC).ok()?;
        let direction = if from.is_some_and(|from| is_outgoing(&from)) { Direction::Out } else { Direction::In };
        Some((&buffer[..length.min(buffer.len())], direction))
    }

    /// Waits until a frame may be there, at most a moment.
    pub fn wait(&self) {
        let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        // An error shows at the next receive; a timeout is as good as an event.
        let _ = poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&moment));
    }

    /// Puts a frame on the wire.
    ///
    /// # Errors
    /// Where the link is down or the frame too long for it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(&self.fd, frame, SendFlags::empty()).with_context(|| format!("cannot send a frame on {}", self.place))?;
        Ok(())
    }

    /// Frames that the kernel had no room for since the last call (PACKET_STATISTICS).
    ///
    /// # Errors
    /// Where the kernel cannot say.
    #[allow(unsafe_code)]
    pub fn take_dropped(&self) -> Result<u32> {
        use std::os::fd::AsRawFd;
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = libc::socklen_t::try_from(size_of_val(&statistics)).expect("two words");
        // SAFETY: the kernel writes at most `length` bytes to `statistics`, which is that long and plain data.
        let status = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if status != 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("no statistics of {}", self.place));
        }
        Ok(statistics.tp_drops)
    }
}

#[allow(unsafe_code)]
fn open(link: &str) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol yet: else frames of every interface arrive until it is bound.
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    set_socket_recv_buffer_size(&fd, QUEUE)?;
    let index = i32::try_from(name_to_index(&fd, link)?).map_err(io::Error::other)?;
    // SAFETY: all-zero is a valid sockaddr_ll, plain data.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("a small number");
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("a small number").to_be();
    address.sll_ifindex = index;
    let length = libc::socklen_t::try_from(size_of_val(&address)).expect("twenty bytes");
    // SAFETY: `address` is a complete socket address of `length` bytes, shorter than the storage it is copied to.
    let address = unsafe { SocketAddrAny::read((&raw const address).cast(), length) };
    bind(&fd, &address)?;
    Ok(fd)
}

#[allow(unsafe_code)]
fn is_outgoing(from: &SocketAddrAny) -> bool {
    if from.address_family() != AddressFamily::PACKET {
        return false;
    }
    // SAFETY: the family says that the kernel wrote a sockaddr_ll; the storage behind the pointer is larger.
    let address = unsafe { from.as_ptr().cast::<libc::sockaddr_ll>().read_unaligned() };
    address.sll_pkttype == libc::PACKET_OUTGOING
}
