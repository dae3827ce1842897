//! What probes found, per peer and family.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use weft_core::types::{Family, NodeName, PerFamily};

use super::Targets;

/// So many unanswered probes in a row make a peer unreachable: one lost packet is no outage.
const ENOUGH: u32 = 3;

/// What is known of one peer in one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probe {
    /// Round trip of the last answer.
    pub rtt: Option<Duration>,
    /// Unanswered probes since then.
    pub lost: u32,
    /// When the first of those was given up.
    pub lost_since: Option<SystemTime>,
    /// When it began to answer; a single lost probe in between does not count.
    pub answers_since: Option<SystemTime>,
}

/// What the probes of one peer in one family say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No probe has ended yet.
    Unknown,
    /// It answers.
    Answers,
    /// It does not, since then.
    Lost(SystemTime),
}

impl Probe {
    /// The verdict.
    pub const fn verdict(&self) -> Verdict {
        match (self.lost, self.lost_since, self.rtt) {
            (ENOUGH.., Some(since), _) => Verdict::Lost(since),
            (_, _, Some(_)) => Verdict::Answers,
            _ => Verdict::Unknown,
        }
    }
}

/// What is known of all peers.
#[derive(Debug, Default)]
pub struct Table(HashMap<NodeName, PerFamily<Probe>>);

impl Table {
    /// What is known of `peer` in `family`.
    pub fn get(&self, peer: &NodeName, family: Family) -> Probe {
        self.0.get(peer).map(|probes| *probes.get(family)).unwrap_or_default()
    }

    /// Peers that are lost in some family, with that family.
    pub fn lost_peers(&self) -> impl Iterator<Item = (&NodeName, Family, SystemTime)> {
        self.0.iter().flat_map(|(name, probes)| {
            Family::ALL.into_iter().filter_map(move |family| match probes.get(family).verdict() {
                Verdict::Lost(since) => Some((name, family, since)),
                _ => None,
            })
        })
    }

    /// Peers that answer in every family that was probed.
    pub fn answering(&self) -> usize {
        let well = |probes: &&PerFamily<Probe>| {
            let verdicts = Family::ALL.map(|family| probes.get(family).verdict());
            verdicts.contains(&Verdict::Answers) && !verdicts.iter().any(|v| matches!(v, Verdict::Lost(_)))
        };
        self.0.values().filter(well).count()
    }

    /// Forgets peers that are no targets any more. True where that changed a verdict.
    pub(super) fn retain(&mut self, targets: &Targets) -> bool {
        let before = self.0.len();
        if before == 0 {
            return false;
        }
        let keep: std::collections::HashSet<_> = targets.peers.iter().map(|(name, _)| name).collect();
        self.0.retain(|name, _| keep.contains(name));
        self.0.len() != before
    }

    /// Notes an answer at `now`. True where the verdict changed.
    pub(super) fn answered(&mut self, peer: &NodeName, family: Family, rtt: Duration, now: SystemTime) -> bool {
        self.change(peer, family, |probe| {
            let began = match probe.verdict() {
                Verdict::Answers => probe.answers_since.unwrap_or(now),
                _ => now,
            };
            *probe = Probe { rtt: Some(rtt), lost: 0, lost_since: None, answers_since: Some(began) };
        })
    }

    /// Notes a loss at `now`. True where the verdict changed.
    pub(super) fn lost(&mut self, peer: &NodeName, family: Family, now: SystemTime) -> bool {
        self.change(peer, family, |probe| {
            probe.lost = probe.lost.saturating_add(1);
            probe.lost_since.get_or_insert(now);
        })
    }

    fn change(&mut self, peer: &NodeName, family: Family, change: impl FnOnce(&mut Probe)) -> bool {
        let probe = self.0.entry(peer.clone()).or_default().get_mut(family);
        let before = probe.verdict();
        change(probe);
        before != probe.verdict()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_losses_in_a_row_make_a_verdict_and_one_answer_ends_it() {
        let (mut table, name) = (Table::default(), NodeName::new("a").expect("valid"));
        let first = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let later = first + Duration::from_secs(9);
        let rtt = Duration::from_micros(70);
        assert!(table.answered(&name, Family::V4, rtt, first), "the first answer is news");
        assert!(!table.lost(&name, Family::V4, first));
        assert!(!table.lost(&name, Family::V4, later));
        assert!(table.lost(&name, Family::V4, later), "the third loss is news");
        assert_eq!(table.get(&name, Family::V4).verdict(), Verdict::Lost(first), "it is lost since the first loss");
        assert_eq!(table.get(&name, Family::V6).verdict(), Verdict::Unknown);
        assert_eq!(table.answering(), 0);
        assert!(table.answered(&name, Family::V4, rtt, later));
        assert!(!table.answered(&name, Family::V4, rtt, later + rtt));
        assert_eq!(table.get(&name, Family::V4).answers_since, Some(later), "it answers since its first answer");
        assert_eq!(table.answering(), 1);
    }
}
