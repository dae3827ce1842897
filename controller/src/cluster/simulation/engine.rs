//! The agent's engine: updates into the view, the view into the kernel, and what comes of it to the controller.
//!
//! Owns the order in which the real engine does so. Must never be kinder: whatever the real one does with a message that
//! it cannot use, it does too.

use std::{collections::BTreeSet, sync::Arc};

use ipnetwork::IpNetwork;
use weft_core::{desired, membership::Member, types::Family};

use crate::store::NodeRecord;

use super::{
    Checked, Planted,
    agent::{LastGood, Update},
    hold,
    world::{Event, World},
};

impl World {
    /// One update of an agent's queue.
    pub(super) fn engine(&mut self, number: usize, run: u64) -> Checked {
        let Some(process) = self.agents[number].running(run) else { return Ok(()) };
        process.is_busy = false;
        let Some((life, update)) = process.updates.pop_front() else { return Ok(()) };
        let taken = match update {
            Update::Snapshot(snapshot, told) => {
                if told.is_of(&snapshot.digests()) {
                    let applied = process.view.apply_snapshot(snapshot).map_err(|error| error.to_string());
                    process.is_whole |= applied.is_ok();
                    applied
                } else {
                    Err("the snapshot's digest is not that of its members".to_owned())
                }
            }
            Update::Delta(delta) => process.view.apply_delta(&delta).map(drop).map_err(|error| error.to_string()),
            Update::Current(revision, found, knows_more) => {
                let adopted = process.view.adopt(revision, found).map_err(|error| error.to_string());
                let _there_was_more = !knows_more && adopted.is_ok() && process.view.forget_more();
                adopted
            }
        };
        match taken {
            Ok(()) => {
                self.check_life(number, life)?;
                self.membership_changed(number, run);
                self.look(number)?;
            }
            Err(reason) => self.resync(number, &reason),
        }
        self.wake_engine(number);
        Ok(())
    }

    /// Lets the engine take the next update when it has time.
    pub(super) fn wake_engine(&mut self, number: usize) {
        let (run, slow) = (self.agents[number].run, self.agents[number].slow_until > self.now);
        let Some(process) = self.agents[number].running(run) else { return };
        if process.is_busy || process.updates.is_empty() {
            return;
        }
        process.is_busy = true;
        let longest = if slow { 40_000 } else { 20 };
        let waits = self.planted == Planted::EngineWaitsForDisk;
        let disk = self.agents[number].disk.until.saturating_sub(self.now);
        let disk = if waits { disk } else { 0 };
        self.soon(disk, disk + longest, Event::Engine(number, run));
    }

    fn membership_changed(&mut self, number: usize, run: u64) {
        self.hold(number);
        let Some(process) = self.agents[number].running(run) else { return };
        if !std::mem::replace(&mut process.tidy_due, true) {
            self.after(500, Event::Tidy(number, run));
        }
    }

    fn resync(&mut self, number: usize, reason: &str) {
        self.counts.resyncs += 1;
        self.say(|world| format!("{} resyncs: {reason}", world.agents[number].name));
        self.hold(number);
        self.client_resyncs(number);
    }

    /// What the next Hello tells.
    pub(super) fn hold(&mut self, number: usize) {
        let Some(process) = &mut self.agents[number].process else { return };
        if process.view.settings().is_some() {
            let revision = process.is_whole.then(|| process.view.revision());
            process.held = (revision, Some(process.view.digests()));
        }
    }

    /// The last good membership goes to disk.
    pub(super) fn tidy(&mut self, number: usize, run: u64) {
        let (disk, now) = (self.agents[number].disk, self.now);
        let Some(process) = self.agents[number].running(run) else { return };
        if disk.until > now && !disk.is_failing {
            // The writer waits, and nobody waits for it; it writes what is the newest then.
            self.counts.slow_saves += 1;
            return self.after(disk.until - now, Event::Tidy(number, run));
        }
        process.tidy_due = false;
        if disk.until > now {
            self.counts.failed_saves += 1;
            return;
        }
        let Some(process) = self.agents[number].running(run) else { return };
        let snapshot = process.view.snapshot().filter(|_| process.is_whole);
        let is_whole = !self.agents[number].is_old;
        if let Some(snapshot) = snapshot {
            self.agents[number].state.last_good = Some(LastGood { snapshot, is_whole });
        }
    }

    /// Another try, for a kernel that did not take it.
    pub(super) fn look_again(&mut self, number: usize, run: u64) -> Checked {
        match self.agents[number].running(run).is_some_and(|process| process.is_degraded) {
            true => self.look(number),
            false => Ok(()),
        }
    }

    /// Puts the kernel right, and tells how the node stands.
    pub(super) fn look(&mut self, number: usize) -> Checked {
        self.check_view(number)?;
        let (stays, planted) = (self.networks_of_peers(number), self.planted);
        let (is_broken, run) = (self.agents[number].broken_until > self.now, self.agents[number].run);
        let agent = &mut self.agents[number];
        let local = agent.local();
        let Some(process) = &mut agent.process else { return Ok(()) };
        let (Some(settings), Some(me)) = (process.view.settings().cloned(), process.view.member(&agent.name)) else {
            // No membership, or not in it: the kernel is left as it is.
            process.is_degraded = true;
            self.tell(number);
            return Ok(());
        };
        process.is_degraded = is_broken;
        if !is_broken {
            if process.desired.is_empty() {
                process.ids.adopt(agent.kernel.objects());
            }
            let peers: Vec<Arc<Member>> = process.view.members().collect();
            let peers = peers.iter().map(AsRef::<Member>::as_ref);
            let mut desired = desired::all(&settings, &me, &local, peers, &[], &mut process.ids);
            Self::spoil_pairs(planted, &mut desired);
            let before = std::mem::replace(&mut process.desired, desired);
            let name = &agent.name;
            let converged = agent.kernel.converge(&before, &process.desired, local.device, |to| stays.contains(to));
            converged.map_err(|super::Violation(what)| {
                super::Violation(format!("{name} at {}: {what}", process.view.revision()))
            })?;
            process.applied = Some(process.view.revision());
            if self.is_honest(&self.agents[number].name) {
                self.check_pairs(number)?;
            }
        } else {
            self.soon(500, 5000, Event::Look(number, run));
        }
        self.check_own(number)?;
        self.tell(number);
        Ok(())
    }

    /// What the leader said at the revision that the agent holds about whose packets must find their way.
    fn networks_of_peers(&self, number: usize) -> BTreeSet<IpNetwork> {
        let agent = &self.agents[number];
        let Some(process) = &agent.process else { return BTreeSet::new() };
        // What a liar makes of its own kernel is its own affair.
        let content = self.past.at(process.view.revision()).filter(|_| self.is_honest(&agent.name));
        let Some(content) = content else { return BTreeSet::new() };
        let Some(me) = content.members.iter().find(|member| member.name == agent.name) else { return BTreeSet::new() };
        let mut networks = BTreeSet::new();
        for peer in content.members.iter().filter(|peer| peer.name != agent.name) {
            for family in Family::ALL {
                let path = me.path(peer, family, &content.settings);
                let cidr = peer.pod_cidrs.get(family).filter(|_| path != weft_core::membership::Path::None);
                networks.extend(cidr.map(|cidr| cidr.network()));
            }
        }
        networks
    }

    /// An agent that acknowledges before its time, where that bug is planted.
    pub(super) fn acknowledge_early(&mut self, number: usize, revision: weft_core::types::Revision) {
        if self.planted != Planted::EarlyAcknowledgement {
            return;
        }
        if let Some(process) = &mut self.agents[number].process {
            process.applied = process.applied.max(Some(revision));
        }
        self.tell(number);
    }

    fn check_own(&self, number: usize) -> Checked {
        let agent = &self.agents[number];
        let Some(process) = &agent.process else { return Ok(()) };
        let Some(me) = process.view.member(&agent.name).filter(|_| self.is_honest(&agent.name)) else { return Ok(()) };
        let Some(durable) = self.disk.ledger(|ledger| ledger.nodes.get(&agent.name).and_then(NodeRecord::member))
        else {
            return Ok(());
        };
        // An agent that knows its present life takes for its own what the store says, and nothing else.
        if me.incarnation != durable.incarnation || process.is_degraded {
            return Ok(());
        }
        let pools = process.view.settings().map(|settings| settings.pools.iter().map(|pool| pool.network()).collect());
        for own in agent.kernel.own(&pools.unwrap_or_default()) {
            let is_given = durable.pod_cidrs.iter().any(|cidr| cidr.network() == own);
            hold!(is_given, "{} takes {own} for its own, and the store knows nothing of it", agent.name);
        }
        Ok(())
    }
}
