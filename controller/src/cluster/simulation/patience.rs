//! Time that agents have to acknowledge.
//!
//! Owns the count of it, made from what happens and not from what the controller believes: none of the time in which the
//! controller waited for its disk is an agent's, and whoever is cut off for being late had trouble of its own.

use std::collections::{BTreeSet, HashMap};

use weft_core::types::NodeName;

use super::{Checked, Planted, hold, world::World};
use crate::cluster::Command;

/// By the controller's clock, and how much of it went by in waiting for the disk; milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    at: u64,
    stalled: u64,
}

/// What happened when in a term.
#[derive(Debug, Default)]
pub(super) struct Patience {
    opened: HashMap<u64, Moment>,
    announced: Vec<(u64, Moment)>,
}

/// A stream that the controller may end for being late.
#[derive(Debug)]
pub(super) struct Late {
    name: NodeName,
    session: u64,
    acknowledged: Option<u64>,
}

impl Late {
    pub(super) fn names(late: &[Self]) -> BTreeSet<NodeName> {
        late.iter().map(|late| late.name.clone()).collect()
    }
}

impl World {
    /// A write that took long: time went by in it.
    pub(super) fn note_stall(&mut self) {
        let Some(stall) = self.disk.take_stall() else { return };
        self.counts.stalls += 1;
        self.counts.long_stalls += u64::from(u128::from(stall) > self.rules.acknowledge_timeout.as_millis());
        if self.planted == Planted::StallCounts {
            self.clock.wait(stall);
        }
        self.say(|_| format!("the disk took {stall} ms"));
    }

    fn moment(&self) -> Moment {
        Moment { at: self.clock.elapsed(), stalled: self.disk.stalled() }
    }

    /// After a step of the controller.
    pub(super) fn note_times(&mut self) {
        let now = self.moment();
        let Some(server) = &self.server else { return };
        for (_, live) in server.actor.sessions.iter() {
            self.patience.opened.entry(live.id).or_insert(now);
        }
        let published = server.actor.publisher.fanout().published();
        if self.patience.announced.last().is_none_or(|(last, _)| *last < published) {
            self.patience.announced.push((published, now));
        }
    }

    /// Whom the controller is about to call late.
    pub(super) fn late(&self) -> Vec<Late> {
        let Some(server) = &self.server else { return Vec::new() };
        let actor = &server.actor;
        let overdue = actor.sessions.overdue(actor.clock.now(), actor.rules.acknowledge_timeout);
        let late = |name: NodeName| {
            let live = actor.sessions.get(&name).filter(|live| !live.is_degraded())?;
            Some(Late { name, session: live.id, acknowledged: live.acknowledged })
        };
        overdue.into_iter().filter_map(late).collect()
    }

    /// Each of them had its time, had said nothing that was not heard, and had trouble.
    pub(super) fn check_late(&self, late: &[Late]) -> Checked {
        let (now, limit) = (self.moment(), self.rules.acknowledge_timeout.as_millis());
        let Some(server) = &self.server else { return Ok(()) };
        for Late { name, session, acknowledged } in late {
            let opened = self.patience.opened.get(session).copied().unwrap_or_default();
            let first =
                |(sequence, _): &&(u64, Moment)| acknowledged.is_some_and(|acknowledged| *sequence > acknowledged);
            let told = self.patience.announced.iter().find(first).map_or(opened, |(_, at)| *at);
            let since = if told.at > opened.at { told } else { opened };
            let waited = (now.at - since.at) - (now.stalled - since.stalled);
            hold!(u128::from(waited) >= limit, "{name} is late after {waited} ms in which it could be heard");
            let is_unheard = |command: &Command| match command {
                Command::Report(node, id, report, _) => node == name && id == session && report.applied.is_some(),
                _ => false,
            };
            hold!(!server.queue.iter().any(is_unheard), "{name} is late, and what it said was not heard");
            let Some((agent, process)) = self.at_both_ends(name) else { continue };
            let is_cut = process.client.link().and_then(|link| self.links.get(&link)).is_none_or(|link| link.is_cut);
            let has_excuse = is_cut || agent.excused_until > self.now || !self.is_honest(name);
            hold!(has_excuse, "{name} is late, and nothing was wrong with it");
        }
        Ok(())
    }
}
