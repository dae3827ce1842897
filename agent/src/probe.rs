//! Probes: does a peer truly answer through the data plane?
//!
//! Owns ICMP echo requests to every peer's VTEP address, sent from this node's own, so that they take the very way that
//! pod packets take, and are answered by the peer's kernel even while its agent is down. Must never change anything, and
//! never more than [`RATE`] a second leave a node, however many peers there are.

mod echo;
mod flights;
mod table;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use weft_core::types::{Family, NodeName, PerFamily};

pub use self::table::{Probe, Table, Verdict};
use self::{
    echo::{Echo, EchoSocket},
    flights::Flights,
};

/// Probes a second at most.
const RATE: u32 = 50;
/// The shortest time between two probes of one peer.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(900);

/// Whom to probe, and from which addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// This node's VTEP addresses.
    pub sources: PerFamily<Option<IpAddr>>,
    /// The peers' VTEP addresses.
    pub peers: Vec<(NodeName, IpAddr)>,
    /// The peers' underlay addresses, which packets to those are sent to.
    pub underlays: Arc<[(NodeName, IpAddr)]>,
}

/// What the prober found, for everybody else to read.
#[derive(Debug, Clone)]
pub struct Findings {
    table: Arc<Mutex<Table>>,
    changed: watch::Receiver<u64>,
}

impl Findings {
    /// Calls `read` with the table.
    pub fn with<T>(&self, read: impl FnOnce(&Table) -> T) -> T {
        read(&self.table.lock().expect("no holder of this lock panics: it only copies"))
    }

    /// Waits until some peer's verdict changed.
    pub async fn changed(&mut self) {
        if self.changed.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Sends the probes. Create it, then [`Prober::run`] it.
#[derive(Debug)]
pub struct Prober {
    targets: watch::Receiver<Arc<Targets>>,
    table: Arc<Mutex<Table>>,
    changed: watch::Sender<u64>,
    sockets: PerFamily<Option<EchoSocket>>,
    flying: Flights,
}

impl Prober {
    /// A prober of whatever `targets` says.
    pub fn new(targets: watch::Receiver<Arc<Targets>>) -> (Self, Findings) {
        let table = Arc::new(Mutex::new(Table::default()));
        let (changed, receiver) = watch::channel(0);
        let findings = Findings { table: table.clone(), changed: receiver };
        let sockets = PerFamily { v4: None, v6: None };
        (Self { targets, table, changed, sockets, flying: Flights::default() }, findings)
    }

    /// Runs until the sender of targets is gone.
    pub async fn run(mut self) {
        while self.targets.has_changed().is_ok() {
            let targets = self.targets.borrow_and_update().clone();
            self.open_sockets(&targets);
            self.update(|table| table.retain(&targets));
            self.round(&targets).await;
        }
    }

    /// One probe to every peer, evenly spread, then until the last may be answered or the round is over.
    async fn round(&mut self, targets: &Targets) {
        let began = Instant::now();
        let gap = Duration::from_secs(1) / RATE;
        let mut ticks = interval(gap);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = targets.peers.iter();
        let mut next = waiting.next();
        while let Some((name, address)) = next {
            tokio::select! {
                _ = ticks.tick() => {
                    self.send(name, *address).await;
                    next = waiting.next();
                }
                echo = receive(&self.sockets) => self.received(&echo),
            }
        }
        let end = began + SHORTEST_ROUND;
        let end = end.max(Instant::now() + PATIENCE.min(SHORTEST_ROUND));
        loop {
            tokio::select! {
                () = sleep_until(end) => break,
                echo = receive(&self.sockets) => self.received(&echo),
            }
        }
        self.give_up_on_late_ones();
    }

    async fn send(&mut self, name: &NodeName, address: IpAddr) {
        let family = Family::of(address);
        let Some(socket) = self.sockets.get(family) else { return };
        let Some(token) = self.flying.depart(name, address, Instant::now()) else { return };
        // A refusal by our own kernel (no route) is a loss like any other: it is found when nothing answers.
        let _ = socket.send(address, token).await;
    }

    fn received(&mut self, echo: &Echo) {
        if let Some((name, rtt)) = self.flying.arrive(echo.token, echo.from, Instant::now()) {
            let family = Family::of(echo.from);
            self.update(|table| table.answered(&name, family, rtt, std::time::SystemTime::now()));
        }
    }

    fn give_up_on_late_ones(&mut self) {
        for (name, address) in self.flying.give_up(PATIENCE, Instant::now()) {
            self.update(|table| table.lost(&name, Family::of(address), std::time::SystemTime::now()));
        }
    }

    /// Changes the table and tells those who wait when a verdict changed.
    fn update(&self, change: impl FnOnce(&mut Table) -> bool) {
        let changed = change(&mut self.table.lock().expect("no holder of this lock panics: it only copies"));
        if changed {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// One socket a family, bound to this node's VTEP address.
    fn open_sockets(&mut self, targets: &Targets) {
        for family in Family::ALL {
            let wanted = *targets.sources.get(family);
            let socket = self.sockets.get_mut(family);
            if socket.as_ref().map(EchoSocket::source) == wanted {
                continue;
            }
            *socket = None;
            if let Some(source) = wanted {
                match EchoSocket::open(source) {
                    Ok(opened) => *socket = Some(opened),
                    Err(error) => tracing::debug!("probes from {source} are not possible yet: {error}"),
                }
            }
        }
    }
}

/// The next answer on either socket.
async fn receive(sockets: &PerFamily<Option<EchoSocket>>) -> Echo {
    tokio::select! {
        echo = receive_on(sockets.v4.as_ref()) => echo,
        echo = receive_on(sockets.v6.as_ref()) => echo,
    }
}

async fn receive_on(socket: Option<&EchoSocket>) -> Echo {
    match socket {
        Some(socket) => socket.receive().await,
        None => std::future::pending().await,
    }
}
