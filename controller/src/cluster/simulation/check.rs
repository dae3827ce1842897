//! What must be true after every step.
//!
//! Owns the past: what the leader held at every revision that anybody could be told of. An agent that holds a revision
//! must hold just that: nothing more, nothing less, nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use weft_core::{
    membership::{Digests, Member, Snapshot},
    types::{NodeName, PodCidr, Revision},
};
use weft_proto::v1::{self, watch_response::Message};

use super::{
    Checked, Planted, Violation,
    agent::{Agent, Run},
    hold,
    pump::End,
    versions,
    world::World,
};

/// What was.
#[derive(Debug, Default)]
pub(super) struct Past {
    contents: HashMap<Revision, Arc<Snapshot>>,
    digests: HashMap<Digests, Arc<Snapshot>>,
    epoch: u64,
    quarantine: BTreeMap<PodCidr, NodeName>,
    /// What was in quarantine when the term began, until it is released, and when that was.
    inherited: BTreeSet<PodCidr>,
    term_began: u64,
    /// Revision and ledger as last looked at.
    seen: Option<(Revision, u64)>,
}

impl Past {
    /// The membership at a revision.
    pub(super) fn at(&self, revision: Revision) -> Option<&Arc<Snapshot>> {
        self.contents.get(&revision)
    }

    pub(super) fn term_begins(&mut self, epoch: u64, now: u64) -> Checked {
        hold!(epoch > self.epoch, "epoch {epoch} began after epoch {}", self.epoch);
        self.epoch = epoch;
        self.inherited = self.quarantine.keys().copied().collect();
        self.term_began = now;
        Ok(())
    }

    fn note(&mut self, content: Snapshot, digests: Digests) -> Checked {
        hold!(content.digests() == digests, "the digest of {} is not that of its content", content.revision);
        let content = Arc::new(content);
        let old = self.digests.entry(digests).or_insert_with(|| Arc::clone(&content));
        hold!(same(old, &content), "{} and {} differ and have one digest", old.revision, content.revision);
        let (revision, named) = (content.revision, Arc::clone(&content));
        let old = self.contents.entry(revision).or_insert(named);
        hold!(same(old, &content), "revision {revision} was announced with two contents");
        Ok(())
    }
}

fn same(one: &Snapshot, other: &Snapshot) -> bool {
    one.settings == other.settings && one.members == other.members
}

impl World {
    /// After a step of the controller.
    pub(super) fn check_server(&mut self) -> Checked {
        let Some(server) = &self.server else { return Ok(()) };
        let seen = (server.actor.publisher.fanout().revision(), self.disk.ledger(|ledger| ledger.version));
        if self.past.seen != Some(seen) {
            let (content, digests) = server.actor.publisher.fanout().contents();
            self.past.note(content, digests)?;
            self.past.seen = Some(seen);
        }
        self.check_sessions()?;
        self.check_release()
    }

    /// Only the present life of a name is connected, and nobody is credited with what its kernel does not hold.
    /// What a liar says that it holds is believed, and hurts itself.
    fn check_sessions(&self) -> Checked {
        let Some(server) = &self.server else { return Ok(()) };
        let epoch = server.actor.epoch;
        for (name, live) in server.actor.sessions.iter() {
            let life = server.actor.registry.nodes().get(name).map(|node| node.incarnation);
            hold!(
                life == Some(live.identity.incarnation),
                "life {} of {name} is connected; {life:?} is the present one",
                live.identity.incarnation
            );
            let Some((_, process)) = self.at_both_ends(name).filter(|_| self.is_honest(name)) else { continue };
            let acknowledged = live.acknowledged.map(|sequence| Revision::new(epoch, sequence));
            hold!(
                acknowledged.is_none_or(|revision| process.applied >= Some(revision)),
                "{name} acknowledged {acknowledged:?} and holds {:?}",
                process.applied
            );
        }
        Ok(())
    }

    /// The run of the agent whose stream is the one that the cluster counts.
    pub(super) fn at_both_ends(&self, name: &NodeName) -> Option<(&Agent, &Run)> {
        let server = self.server.as_ref()?;
        let session = server.actor.sessions.get(name)?.id;
        let is_it = |end: &End| end.node == *name && end.session.as_ref().is_some_and(|s| s.id == session);
        let (number, _) = server.ends.iter().find(|(_, end)| is_it(end))?;
        let link = self.links.get(number)?;
        let agent = &self.agents[link.agent];
        let process = agent.process.as_ref().filter(|_| agent.run == link.run && link.agent_open)?;
        (process.client.link() == Some(*number)).then_some((agent, process))
    }

    /// What left quarantine is in the kernel of nobody who is connected and counts.
    pub(super) fn check_release(&mut self) -> Checked {
        let now = self.disk.ledger(|ledger| ledger.quarantine.clone());
        let before = std::mem::replace(&mut self.past.quarantine, now);
        let Some(server) = &self.server else { return Ok(()) };
        for (cidr, owner) in before.iter().filter(|(cidr, _)| !self.past.quarantine.contains_key(cidr)) {
            self.counts.released += 1;
            let is_graced = u128::from(self.now - self.past.term_began) >= self.rules.reconnect_grace.as_millis();
            hold!(
                is_graced || !self.past.inherited.remove(cidr),
                "{cidr} of {owner} is free again before those who are still reconnecting had their time"
            );
            let counting =
                server.actor.sessions.iter().filter(|(name, live)| !live.is_degraded() && self.is_honest(name));
            for (name, live) in counting {
                let holds = self.at_both_ends(name).is_some_and(|(agent, _)| agent.kernel.holds(cidr));
                hold!(
                    !holds,
                    "{cidr} of {owner} is free again while the kernel of {name}, life {}, holds it",
                    live.identity.incarnation
                );
            }
        }
        Ok(())
    }

    /// A message leaves the controller: nothing in it may be news to the store.
    pub(super) fn check_message(&mut self, message: &v1::WatchResponse) -> Checked {
        let revision: Revision = message.revision.map(Into::into).unwrap_or_default();
        hold!(self.past.at(revision).is_some(), "revision {revision} is announced and never was");
        let (members, departed): (Vec<&v1::Member>, Vec<&str>) = match &message.message {
            Some(Message::SnapshotChunk(chunk)) => {
                self.counts.snapshots += 1;
                (chunk.members.iter().collect(), Vec::new())
            }
            Some(Message::Delta(delta)) => {
                self.counts.deltas += 1;
                parts(delta)
            }
            Some(Message::Current(_)) => {
                self.counts.currents += 1;
                (Vec::new(), Vec::new())
            }
            _ => (Vec::new(), Vec::new()),
        };
        for wire in members {
            let member = Member::try_from(wire.clone()).map_err(|error| Violation(error.to_string()))?;
            let is_written = self.disk.ledger(|ledger| ledger.ever_was(&member));
            hold!(is_written, "{} is announced with {:?} before that is written", member.name, member.pod_cidrs);
        }
        for name in departed {
            let name = name.parse().map_err(|error| Violation(format!("{error}")))?;
            let is_written = self.disk.ledger(|ledger| ledger.ever_ended(&name));
            hold!(is_written, "the departure of {name} is announced before it is written");
        }
        Ok(())
    }

    /// What comes on a stream never shows an agent an earlier life of itself, with a CIDR that is another's by now.
    pub(super) fn check_life(&self, number: usize, life: u64) -> Checked {
        let agent = &self.agents[number];
        let me = agent.process.as_ref().and_then(|process| process.view.member(&agent.name));
        let me = me.filter(|_| self.is_honest(&agent.name));
        let shown = me.map_or(life, |me| me.incarnation);
        hold!(shown >= life, "{} in life {life} is shown life {shown} of itself", agent.name);
        Ok(())
    }

    /// What an agent holds is what the leader held at that revision.
    pub(super) fn check_view(&self, number: usize) -> Checked {
        let agent = &self.agents[number];
        let Some(process) = &agent.process else { return Ok(()) };
        let Some(held) = process.view.snapshot().filter(|_| self.is_honest(&agent.name)) else { return Ok(()) };
        let Some(content) = self.past.at(held.revision) else {
            return Err(Violation(format!("{} holds {}, which never was", agent.name, held.revision)));
        };
        if !same(&held, content) && self.planted == Planted::IncompleteSnapshot {
            // Leave it to the kernel to show what that leads to.
            return Ok(());
        }
        // Version 0.1 sees a part, and leaves a part on its disk.
        let is_part = agent.is_old || !process.is_whole;
        let part = is_part.then(|| Arc::new(versions::plain(content)));
        let content = part.as_ref().unwrap_or(content);
        hold!(
            same(&held, content),
            "{} holds {} with another content: {:?} instead of {:?}",
            agent.name,
            held.revision,
            held.members,
            content.members
        );
        hold!(
            process.view.digests() == content.digests(),
            "{} computes another digest for {}",
            agent.name,
            held.revision
        );
        Ok(())
    }
}

fn parts(delta: &v1::Delta) -> (Vec<&v1::Member>, Vec<&str>) {
    let (mut members, mut departed) = (Vec::new(), Vec::new());
    for change in &delta.changes {
        match &change.change {
            Some(v1::change::Change::Upsert(member)) => members.push(member),
            Some(v1::change::Change::Departed(name)) => departed.push(name.as_str()),
            _ => {}
        }
    }
    (members, departed)
}
