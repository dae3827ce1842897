//! Whether the pod of an allocation is gone: a verdict from witnesses, and how long it has to stand.
//!
//! Pure. Must never call a pod gone while one witness may still speak for it: an address that is freed too late costs
//! an address, one that is freed too early costs two pods their connections.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What a witness that may be blind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It is there.
    There,
    /// It is certainly not there.
    Gone,
    /// From here it cannot be told.
    Unknown,
}

/// All that can be asked about one allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Witnesses {
    /// The host's end of the veth pair. While it exists, so does the pod's end, and with it the pod's namespace: the
    /// kernel deletes both with the namespace.
    pub(super) link: bool,
    /// The namespace's path as the runtime gave it.
    pub(super) namespace: Evidence,
    /// The runtime's own record: its cached CNI result, which it removes after a successful DEL.
    pub(super) runtime: Evidence,
}

/// What the witnesses say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The pod may live.
    Lives,
    /// The pod may live, but lost its interface: only its runtime can help, by making it anew.
    CutOff,
    /// Nobody speaks for it.
    Gone(&'static str),
}

impl Witnesses {
    /// The verdict of a single moment; see [`Suspects`] for how long it has to stand.
    pub(super) const fn verdict(self) -> Verdict {
        match self {
            // Something keeps the namespace alive that the runtime cannot reach any more, such as a stray process.
            Self { link: true, namespace: Evidence::Gone, runtime: Evidence::Gone } => {
                Verdict::Gone("the runtime has forgotten it, and its network namespace has no path any more")
            }
            Self { link: true, .. } => Verdict::Lives,
            Self { link: false, namespace: Evidence::There | Evidence::Unknown, runtime: Evidence::There } => {
                Verdict::CutOff
            }
            Self { link: false, .. } => Verdict::Gone("its interface is gone, and with it any use of its addresses"),
        }
    }
}

/// Who is suspected, and since when: a suspicion has to stand for the whole grace period. The clock is that of this
/// process, so that a restarted agent begins anew.
#[derive(Debug)]
pub(super) struct Suspects<K> {
    since: BTreeMap<K, Instant>,
}

impl<K> Default for Suspects<K> {
    fn default() -> Self {
        Self { since: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Suspects<K> {
    /// Takes the suspects of this moment; whoever is not among them any more is cleared. Returns those whose grace
    /// period is over.
    pub(super) fn ripe(&mut self, suspects: impl IntoIterator<Item = K>, now: Instant, grace: Duration) -> Vec<K> {
        let suspects = suspects.into_iter();
        self.since = suspects.map(|key| (key.clone(), self.since.get(&key).copied().unwrap_or(now))).collect();
        let over = |since: &Instant| now.saturating_duration_since(*since) >= grace;
        self.since.iter().filter(|(_, since)| over(since)).map(|(key, _)| key.clone()).collect()
    }

    /// How many are suspected.
    pub(super) fn len(&self) -> usize {
        self.since.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Evidence::*, *};

    fn verdict(link: bool, namespace: Evidence, runtime: Evidence) -> Verdict {
        Witnesses { link, namespace, runtime }.verdict()
    }

    #[test]
    fn who_may_live_keeps_its_address() {
        for evidence in [There, Gone, Unknown] {
            assert_eq!(verdict(true, There, evidence), Verdict::Lives);
            assert_eq!(verdict(true, Unknown, evidence), Verdict::Lives, "a blind witness counts for the pod");
        }
        assert_eq!(verdict(true, Gone, There), Verdict::Lives, "the runtime will send its DEL");
        assert_eq!(verdict(true, Gone, Unknown), Verdict::Lives, "a process may hold the namespace");
        assert_eq!(verdict(false, There, There), Verdict::CutOff);
        assert_eq!(verdict(false, Unknown, There), Verdict::CutOff);
    }

    #[test]
    fn nobody_speaks_for_these() {
        assert!(matches!(verdict(true, Gone, Gone), Verdict::Gone(_)), "forgotten by its runtime");
        assert!(matches!(verdict(false, Gone, There), Verdict::Gone(_)), "a reboot leaves the runtime's record");
        for namespace in [There, Gone, Unknown] {
            assert!(matches!(verdict(false, namespace, Gone), Verdict::Gone(_)));
            assert!(matches!(verdict(false, namespace, Unknown), Verdict::Gone(_)));
        }
    }

    #[test]
    fn a_suspicion_has_to_stand_without_a_gap() {
        let (mut suspects, start, grace) = (Suspects::default(), Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(suspects.ripe(["a", "b"], at(0), grace), Vec::<&str>::new());
        assert_eq!(suspects.ripe(["b"], at(30), grace), Vec::<&str>::new());
        assert_eq!(suspects.ripe(["a", "b"], at(60), grace), ["b"], "a was cleared at 30");
        assert_eq!(suspects.ripe(["a"], at(89), grace), Vec::<&str>::new());
        assert_eq!(suspects.ripe(["a"], at(120), grace), ["a"]);
        assert_eq!(suspects.len(), 1);
    }
}
