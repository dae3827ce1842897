//! Who is connected.
//!
//! Owns the live streams, one per node, and when which change was announced, which together tell who is late. Must
//! never outlive the process: after a restart everybody connects anew.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use weft_core::{
    standing::{Facts, Health},
    types::{NodeName, UnixMs},
};

use super::{NodeIdentity, Refusal};

/// Announcements that are remembered: at 20 a second more than a minute's worth.
const ANNOUNCEMENTS_KEPT: usize = 2048;

/// The controller is often busy for less.
const NOTICEABLE: Duration = Duration::from_millis(100);

/// A live stream.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: u64,
    pub(super) identity: NodeIdentity,
    pub(super) connected_at: Instant,
    /// The newest sequence of this term that it acknowledged.
    pub(super) acknowledged: Option<u64>,
    /// When it acknowledged that.
    pub(super) acknowledged_at: Option<UnixMs>,
    pub(super) health: Health,
    /// The newest facts that the store has not taken, or that came too fast.
    pub(super) untaken: Option<Told>,
    close: oneshot::Sender<Refusal>,
}

/// Facts that were told on a stream from this address.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) facts: Facts,
    pub(super) source: IpAddr,
}

impl Live {
    /// Says itself that its kernel does not hold what it should: it cannot acknowledge, and it is no use to make it
    /// connect again and again.
    pub(super) fn is_degraded(&self) -> bool {
        self.health.problem.is_some()
    }
}

#[derive(Debug, Clone, Copy)]
struct Announcement {
    at: Instant,
    unix: UnixMs,
    sequence: u64,
}

/// The live streams by node.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    live: HashMap<NodeName, Live>,
    announcements: VecDeque<Announcement>,
}

impl Sessions {
    /// Adds a stream; an older one of the same node is closed, the newest wins.
    pub(super) fn open(&mut self, id: u64, identity: NodeIdentity, now: Instant) -> oneshot::Receiver<Refusal> {
        let (close, closed) = oneshot::channel();
        let node = identity.name.clone();
        self.close(&node, || Refusal::Replaced { node: node.clone() });
        let health = Health::default();
        let (acknowledged, acknowledged_at) = (None, None);
        let live =
            Live { id, identity, connected_at: now, acknowledged, acknowledged_at, health, untaken: None, close };
        self.live.insert(node, live);
        closed
    }

    /// Closes the stream of a node.
    pub(super) fn close(&mut self, node: &NodeName, why: impl FnOnce() -> Refusal) -> bool {
        let Some(live) = self.live.remove(node) else { return false };
        let _ended_by_itself = live.close.send(why());
        true
    }

    /// Closes all of them.
    pub(super) fn close_all(&mut self, why: &Refusal) {
        for (_, live) in self.live.drain() {
            let _ended_by_itself = live.close.send(why.clone());
        }
    }

    /// Forgets a stream that has ended, unless a newer one took its place.
    pub(super) fn forget(&mut self, node: &NodeName, id: u64) -> bool {
        let is_it = self.live.get(node).is_some_and(|live| live.id == id);
        is_it && self.live.remove(node).is_some()
    }

    pub(super) fn get(&self, node: &NodeName) -> Option<&Live> {
        self.live.get(node)
    }

    pub(super) fn get_mut(&mut self, node: &NodeName, id: u64) -> Option<&mut Live> {
        self.live.get_mut(node).filter(|live| live.id == id)
    }

    /// The stream of a node in one of its lives.
    pub(super) fn of_life(&mut self, node: &NodeName, incarnation: u64) -> Option<&mut Live> {
        self.live.get_mut(node).filter(|live| live.identity.incarnation == incarnation)
    }

    pub(super) fn is_connected(&self, node: &NodeName) -> bool {
        self.live.contains_key(node)
    }

    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, &Live)> {
        self.live.iter()
    }

    /// Remembers that streams were told of `sequence`.
    pub(super) fn announced(&mut self, sequence: u64, at: Instant, unix: UnixMs) {
        if self.announcements.len() == ANNOUNCEMENTS_KEPT {
            self.announcements.pop_front();
        }
        self.announcements.push_back(Announcement { at, unix, sequence });
    }

    /// When the first change was announced that a stream has not acknowledged.
    pub(super) fn behind_since(&self, live: &Live) -> Option<(Instant, UnixMs)> {
        let acknowledged = live.acknowledged?;
        let first = self.announcements.partition_point(|announced| announced.sequence <= acknowledged);
        let announced = self.announcements.get(first)?;
        Some((announced.at.max(live.connected_at), announced.unix))
    }

    /// Facts that wait to be taken, of a few streams whose turn it is.
    pub(super) fn take_untaken(
        &mut self,
        most: usize,
        is_due: impl Fn(&NodeName) -> bool,
    ) -> Vec<(NodeName, u64, Told)> {
        let waiting = self.live.iter_mut().filter(|(node, live)| live.untaken.is_some() && is_due(node)).take(most);
        waiting.filter_map(|(node, live)| Some((node.clone(), live.id, live.untaken.take()?))).collect()
    }

    /// The controller itself was busy for so long, and heard nobody: that time is no agent's.
    pub(super) fn forgive(&mut self, time: Duration) {
        if time < NOTICEABLE {
            return;
        }
        self.announcements.iter_mut().for_each(|announced| announced.at += time);
        self.live.values_mut().for_each(|live| live.connected_at += time);
    }

    /// Those that have not acknowledged what they were told `limit` ago.
    pub(super) fn overdue(&self, now: Instant, limit: Duration) -> Vec<NodeName> {
        let Some(long_ago) = now.checked_sub(limit) else { return Vec::new() };
        let due = self.announcements.partition_point(|announced| announced.at <= long_ago);
        let required = due.checked_sub(1).map_or(0, |index| self.announcements[index].sequence);
        let late = |live: &Live| {
            live.connected_at <= long_ago && live.acknowledged.is_none_or(|acknowledged| acknowledged < required)
        };
        self.live.iter().filter(|(_, live)| late(live)).map(|(node, _)| node.clone()).collect()
    }

    /// The sequence that every stream which counts has acknowledged; `newest` where there is none. A degraded one that
    /// is overdue does not count.
    pub(super) fn acknowledged_by_all(&self, newest: u64, now: Instant, limit: Duration) -> Option<u64> {
        let overdue = self.overdue(now, limit);
        let counts = |(node, live): &(&NodeName, &Live)| !(live.is_degraded() && overdue.contains(node));
        self.live.iter().filter(counts).map(|(_, live)| live.acknowledged).min().unwrap_or(Some(newest))
    }
}
