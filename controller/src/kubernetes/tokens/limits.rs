//! How much strangers may cost the API server.
//!
//! Owns two limits: reviews at a time, and refused tokens of one asker. Must never count a token that nobody could judge:
//! an outage of the API server would shut out all nodes for longer than it lasts. Must never count what others do from a
//! node's address, such as its pods, against whoever shows that node's certificate.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};
use weft_core::types::NodeName;

/// Reviews at a time. At a few milliseconds each, a cluster of thousands that starts as a whole is through in seconds.
const AT_A_TIME: usize = 32;
/// How long a review may wait for its turn.
const TURN: Duration = Duration::from_secs(5);
/// So many refused tokens of an asker within [`WINDOW`] are looked at.
const REFUSED: u32 = 32;
const WINDOW: Duration = Duration::from_secs(30);
/// Networks that are remembered at most; whoever has more of them than that is not held off by addresses.
const NETWORKS: usize = 4096;
/// Lives of nodes that are remembered at most: each has had a certificate, so that strangers cannot fill this.
const LIVES: usize = 16_384;
/// Of an IPv6 address, what tells one network from another: a host has a /64 to itself, and all addresses in it.
const NETWORK_V6: u128 = !0 << 64;

/// Who shows a token, as far as it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Somebody with the certificate of a node in one of its lives.
    Node(NodeName, u64),
    /// Somebody at an address.
    Address(IpAddr),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name, _) => write!(f, "shown with the certificate of node {name}"),
            Self::Address(address @ IpAddr::V4(_)) => write!(f, "from {address}"),
            Self::Address(address) => write!(f, "from {}/64", network(*address)),
        }
    }
}

/// The limits, and what counts against them.
#[derive(Debug)]
pub(super) struct Limits {
    turns: Semaphore,
    lives: Mutex<Known<(NodeName, u64)>>,
    networks: Mutex<Known<IpAddr>>,
}

/// Whose tokens were refused of late.
#[derive(Debug)]
struct Known<K> {
    refused: HashMap<K, Refused>,
    most: usize,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Instant,
    count: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_A_TIME), lives: Known::up_to(LIVES), networks: Known::up_to(NETWORKS) }
    }
}

impl Limits {
    /// True where a token of this asker is looked at.
    pub(super) fn may_ask(&self, asker: &Asker, now: Instant) -> bool {
        match asker {
            Asker::Node(name, life) => lock(&self.lives).may_ask(&(name.clone(), *life), now),
            Asker::Address(address) => lock(&self.networks).may_ask(&network(*address), now),
        }
    }

    /// One of this asker was refused.
    pub(super) fn count(&self, asker: &Asker, now: Instant) {
        match asker {
            Asker::Node(name, life) => lock(&self.lives).count((name.clone(), *life), now),
            Asker::Address(address) => lock(&self.networks).count(network(*address), now),
        }
    }

    /// A turn at the API server; none where it takes too long to come.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(TURN, self.turns.acquire()).await.ok()?.ok()
    }
}

/// What an address counts as.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & NETWORK_V6).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl<K: Eq + Hash> Known<K> {
    fn up_to(most: usize) -> Mutex<Self> {
        Mutex::new(Self { refused: HashMap::new(), most })
    }

    fn may_ask(&self, key: &K, now: Instant) -> bool {
        self.refused.get(key).is_none_or(|refused| refused.count < REFUSED || refused.is_over(now))
    }

    fn count(&mut self, key: K, now: Instant) {
        if self.refused.len() >= self.most && !self.refused.contains_key(&key) {
            self.refused.retain(|_, refused| !refused.is_over(now));
            if self.refused.len() >= self.most {
                return;
            }
        }
        let refused = self.refused.entry(key).or_insert(Refused { since: now, count: 0 });
        if refused.is_over(now) {
            *refused = Refused { since: now, count: 0 };
        }
        refused.count += 1;
    }
}

fn lock<K>(known: &Mutex<Known<K>>) -> MutexGuard<'_, Known<K>> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Refused {
    fn is_over(self, now: Instant) -> bool {
        now.duration_since(self.since) >= WINDOW
    }
}
