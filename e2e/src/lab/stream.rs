//! A steady stream of numbered UDP packets between two namespaces, to tell what an outage costs.
//!
//! Owns the pace, the numbers and the account. Sender and receiver are threads of their own, so that nothing a test
//! does on its runtime disturbs the pace.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use super::{Namespace, wait::limit};

/// How long the receiver waits for stragglers after the last packet was sent.
const STRAGGLERS: Duration = Duration::from_secs(2);
/// Bytes of queue asked for at the receiver: some seconds' worth.
const QUEUE: usize = 8 << 20;
/// A packet that took longer is late.
const LATE: Duration = Duration::from_millis(200);
/// Payload: sequence number and sending time, each 8 bytes, and filling up to the size of a small request.
const PAYLOAD: usize = 64;

/// A running stream.
#[derive(Debug)]
pub struct Stream {
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    /// The sender has ended.
    settled: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Received>,
}

/// The account of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Packets handed to the kernel, or refused by it.
    pub sent: u64,
    /// Packets the sender's kernel refused; they are lost as well.
    pub refused: u64,
    /// Numbers that never arrived, as ranges, first and last.
    pub lost: Vec<(u64, u64)>,
    /// Packets that arrived more than once.
    pub duplicated: u64,
    /// Packets that took more than 200 ms.
    pub late: u64,
    /// Packets that arrived after a later one.
    pub overtaken: u64,
}

impl Account {
    /// How many packets never arrived.
    pub fn lost_packets(&self) -> u64 {
        self.lost.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Fails unless every packet arrived, and there were at least `least`.
    ///
    /// # Errors
    /// With the account.
    pub fn expect_no_loss(&self, least: u64) -> Result<()> {
        if self.lost_packets() > 0 || self.sent < least {
            bail!("of {} packets (at least {least} wanted) {} were lost: {self:?}", self.sent, self.lost_packets());
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Received {
    /// One entry a number: arrived or not.
    seen: Vec<bool>,
    duplicated: u64,
    late: u64,
    overtaken: u64,
}

impl Stream {
    /// Sends `rate` packets a second from `from` to `address` in `to`.
    ///
    /// # Errors
    /// Where a socket cannot be bound.
    ///
    /// # Panics
    /// Where `rate` is zero.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr, rate: u32) -> Result<Self> {
        Self::between(from, to.udp(SocketAddr::new(address, 0))?, None, rate)
    }

    /// The same to `listen` in `to` by way of `destination`, from where somebody translates it.
    ///
    /// # Errors
    /// As [`Self::start`].
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn through(
        from: &Namespace,
        to: &Namespace,
        listen: SocketAddr,
        destination: SocketAddr,
        rate: u32,
    ) -> Result<Self> {
        Self::between(from, to.udp(listen)?, Some(destination), rate)
    }

    fn between(from: &Namespace, target: UdpSocket, destination: Option<SocketAddr>, rate: u32) -> Result<Self> {
        target.set_read_timeout(Some(Duration::from_millis(50)))?;
        // A receiver that gets no turn for a while on a busy machine must not lose what the network has delivered; only
        // where this process may not exceed the system's limit that limit holds.
        if set_socket_recv_buffer_size_force(&target, QUEUE).is_err() {
            set_socket_recv_buffer_size(&target, QUEUE)?;
        }
        let destination = destination.map_or_else(|| target.local_addr(), Ok)?;
        let source = from.udp_towards(destination.ip())?;
        let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop, settled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let start = Instant::now();
        let sender = {
            let (sent, stop) = (Arc::clone(&sent), Arc::clone(&stop));
            let gap = Duration::from_secs(1) / rate;
            spawn("stream-sender", move || send(&source, destination, gap, start, &sent, &stop))?
        };
        let receiver = {
            let (sent, settled, received) = (Arc::clone(&sent), Arc::clone(&settled), Arc::clone(&received));
            spawn("stream-receiver", move || receive(&target, start, &sent, &received, &settled))?
        };
        Ok(Self { sent, received, stop, settled, sender, receiver })
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Packets received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Waits until this many more packets were sent: time as the stream counts it.
    pub async fn pass(&self, packets: u64) {
        let until = self.sent() + packets;
        while self.sent() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it and settles the account once the stragglers are in.
    ///
    /// # Errors
    /// Where a thread of it died.
    pub async fn stop(self) -> Result<Account> {
        self.stop.store(true, Ordering::Release);
        let (sender, receiver, settled) = (self.sender, self.receiver, self.settled);
        let join = move || {
            // Only now the number sent is final: a receiver that compared with it before could miss the last packet.
            let sent = sender.join();
            settled.store(true, Ordering::Release);
            (sent, receiver.join())
        };
        let joined = tokio::task::spawn_blocking(join).await?;
        let (Ok(refused), Ok(received)) = joined else { bail!("a thread of the stream died") };
        Ok(settle(self.sent.load(Ordering::Acquire), refused, &received))
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work).context("cannot start a thread of the stream")
}

/// Keeps an absolute schedule: a sender that was held up catches up. Returns how many packets were refused.
fn send(socket: &UdpSocket, to: SocketAddr, gap: Duration, start: Instant, sent: &AtomicU64, stop: &AtomicBool) -> u64 {
    let (mut refused, mut due, mut payload) = (0, start, [0; PAYLOAD]);
    while !stop.load(Ordering::Acquire) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += gap;
        let number = sent.load(Ordering::Relaxed);
        let elapsed = u64::try_from(start.elapsed().as_nanos()).expect("less than five centuries");
        payload[..8].copy_from_slice(&number.to_be_bytes());
        payload[8..16].copy_from_slice(&elapsed.to_be_bytes());
        refused += u64::from(socket.send_to(&payload, to).is_err());
        sent.store(number + 1, Ordering::Release);
    }
    refused
}

/// Receives until the number sent is settled and all of it is in, or nothing more comes.
fn receive(
    socket: &UdpSocket,
    start: Instant,
    sent: &AtomicU64,
    received: &AtomicU64,
    settled: &AtomicBool,
) -> Received {
    let (mut account, mut buffer, mut quiet_since) = (Received::default(), [0; 2048], None);
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if length == PAYLOAD => {
                account.take(&buffer, start.elapsed());
                received.fetch_add(1, Ordering::Release);
                quiet_since = None;
            }
            // Not ours, or nothing within the socket's patience.
            _ => {}
        }
        if settled.load(Ordering::Acquire) {
            let all = account.seen.iter().filter(|seen| **seen).count();
            let quiet = *quiet_since.get_or_insert_with(Instant::now);
            if u64::try_from(all).expect("a count") >= sent.load(Ordering::Acquire)
                || quiet.elapsed() > limit(STRAGGLERS)
            {
                return account;
            }
        }
    }
}

impl Received {
    fn take(&mut self, payload: &[u8], now: Duration) {
        let field = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().expect("eight bytes"));
        let number = usize::try_from(field(0)).expect("64-bit machines");
        if self.seen.len() <= number {
            self.seen.resize(number + 1, false);
        } else {
            self.overtaken += u64::from(!self.seen[number]);
        }
        self.duplicated += u64::from(self.seen[number]);
        self.seen[number] = true;
        self.late += u64::from(now.saturating_sub(Duration::from_nanos(field(8))) > LATE);
    }
}

fn settle(sent: u64, refused: u64, received: &Received) -> Account {
    let mut lost: Vec<(u64, u64)> = Vec::new();
    for number in 0..sent {
        let arrived = usize::try_from(number).ok().and_then(|index| received.seen.get(index)).is_some_and(|seen| *seen);
        match lost.last_mut() {
            _ if arrived => {}
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => lost.push((number, number)),
        }
    }
    let Received { duplicated, late, overtaken, .. } = *received;
    Account { sent, refused, lost, duplicated, late, overtaken }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_names_every_gap() {
        let received = Received { seen: vec![true, false, false, true, false], duplicated: 1, ..Received::default() };
        let account = settle(7, 2, &received);
        assert_eq!(account.lost, [(1, 2), (4, 6)]);
        assert_eq!(account.lost_packets(), 5);
        assert!(account.expect_no_loss(1).is_err());
        let whole = Received { seen: vec![true; 7], ..Received::default() };
        assert!(settle(7, 0, &whole).expect_no_loss(7).is_ok());
        assert!(settle(7, 0, &whole).expect_no_loss(8).is_err(), "a stream that hardly ran proves nothing");
    }
}
