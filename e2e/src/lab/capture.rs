//! Captures: every IP packet that passes an interface, from the moment the capture starts.
//!
//! Owns the collecting; must never let a lost packet pass for one that was not sent: asking a capture that missed
//! frames is an error.

use std::{
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};

use super::{Namespace, packet::Packet, raw::PacketSocket};

/// Enough of each frame for all headers of a tunnel packet.
const SNAP: usize = 256;

/// A running capture; dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    inner: Arc<Inner>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Inner {
    socket: PacketSocket,
    packets: Mutex<Vec<Packet>>,
}

impl Capture {
    /// Starts to capture on `link` of `namespace`.
    ///
    /// # Errors
    /// Where there is no such link, or the kernel refuses.
    pub fn start(namespace: &Namespace, link: &str) -> Result<Self> {
        let socket = PacketSocket::open(namespace, link)?;
        let name = format!("capture-{}", socket.place());
        let inner = Arc::new(Inner { socket, packets: Mutex::default() });
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, stopped) = (Arc::clone(&inner), Arc::clone(&stop));
        let collector = move || {
            while !stopped.load(Ordering::Relaxed) {
                theirs.socket.wait();
                theirs.collect();
            }
        };
        thread::Builder::new().name(name).spawn(collector).context("cannot start a capture's thread")?;
        Ok(Self { inner, stop })
    }

    /// `NAMESPACE/LINK`.
    pub fn place(&self) -> &str {
        self.inner.socket.place()
    }

    /// All packets so far: a packet that was delivered anywhere before this call is among them, for the kernel queues it
    /// here before it passes it on.
    ///
    /// # Errors
    /// Where the kernel had to drop frames, so that the list has gaps.
    pub fn packets(&self) -> Result<Vec<Packet>> {
        self.inner.collect();
        let dropped = self.inner.socket.take_dropped()?;
        if dropped > 0 {
            bail!("the capture on {} missed {dropped} frames; send less while it runs", self.place());
        }
        Ok(self.inner.packets.lock().expect("nobody panics while holding it").clone())
    }

    /// How many packets so far satisfy `test`.
    ///
    /// # Errors
    /// As [`Self::packets`].
    pub fn count(&self, test: impl Fn(&Packet) -> bool) -> Result<usize> {
        Ok(self.packets()?.iter().filter(|packet| test(packet)).count())
    }

    /// Forgets what was captured so far.
    ///
    /// # Errors
    /// As [`Self::packets`].
    pub fn clear(&self) -> Result<()> {
        self.packets()?;
        self.inner.packets.lock().expect("nobody panics while holding it").clear();
        Ok(())
    }

    /// Fails, listing them, where any packet so far satisfies `test`.
    ///
    /// # Errors
    /// As said, and as [`Self::packets`].
    pub fn expect_none(&self, what: &str, test: impl Fn(&Packet) -> bool) -> Result<()> {
        let found: Vec<_> = self.packets()?.into_iter().filter(|packet| test(packet)).collect();
        if found.is_empty() {
            return Ok(());
        }
        let mut list = String::new();
        for packet in found.iter().take(10) {
            write!(list, "\n  {packet}").expect("writing to a string");
        }
        bail!("{}: {} packets that should not be there ({what}):{list}", self.place(), found.len())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    /// Moves all that waits in the socket to the list.
    fn collect(&self) {
        let mut buffer = [0; SNAP];
        let mut packets = self.packets.lock().expect("nobody panics while holding it");
        while let Some((frame, direction)) = self.socket.receive(&mut buffer) {
            packets.extend(Packet::parse(frame, direction));
        }
    }
}
