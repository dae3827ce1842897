//! How fast statuses are written.
//!
//! Owns the budget: states go first, figures later and the more seldom the more nodes there are, so that neither a flap of
//! a whole cluster nor the usual run of changes is a storm for the API server. Must never lose anything: what is not
//! chosen is wanted again in the next round, in its newest form.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::status::Change;

/// Writes a second over time.
const RATE: f64 = 50.0;
/// Writes at once after a quiet time.
const BURST: f64 = 100.0;
/// Between two writes to one object, unless its state changes.
const DETAIL: Duration = Duration::from_secs(2);
/// With that much more for each node: figures of all nodes together take half the rate at most.
const DETAIL_PER_NODE: Duration = Duration::from_millis(40);

/// The budget, and when which object was written.
#[derive(Debug)]
pub(super) struct Pacer {
    tokens: f64,
    at: Instant,
    written: HashMap<String, Instant>,
}

impl Pacer {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: BURST, at: now, written: HashMap::new() }
    }

    /// Which of those that differ are written now, and when more of them may be; none where none is left.
    pub(super) fn choose(
        &mut self,
        mut wanted: Vec<(String, Change)>,
        nodes: usize,
        now: Instant,
    ) -> (Vec<String>, Option<Instant>) {
        self.tokens = (self.tokens + now.duration_since(self.at).as_secs_f64() * RATE).min(BURST);
        self.at = now;
        let pause = DETAIL.max(DETAIL_PER_NODE * u32::try_from(nodes).unwrap_or(u32::MAX));
        let due = |(name, change): &(String, Change)| match (change, self.written.get(name)) {
            (Change::State, _) | (_, None) => now,
            (Change::Detail, Some(last)) => *last + pause,
        };
        // States first; among equals whoever has waited longest.
        wanted.sort_by_key(|one| (one.1 != Change::State, self.written.get(&one.0).copied(), one.0.clone()));
        let (mut chosen, mut later) = (Vec::new(), None::<Instant>);
        for one in wanted {
            let at = due(&one);
            if at <= now && self.tokens >= 1.0 {
                self.tokens -= 1.0;
                chosen.push(one.0);
                continue;
            }
            let at = if at > now { at } else { now + Duration::from_secs_f64(1.0 / RATE) };
            later = Some(later.map_or(at, |first| first.min(at)));
        }
        for name in &chosen {
            self.written.insert(name.clone(), now);
        }
        (chosen, later)
    }

    /// An object is gone.
    pub(super) fn forget(&mut self, name: &str) {
        self.written.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(count: usize, change: Change) -> Vec<(String, Change)> {
        (0..count).map(|n| (format!("n{n:04}"), change)).collect()
    }

    #[test]
    fn a_flap_of_five_thousand_nodes_is_spread_and_comes_to_its_end() {
        let mut now = Instant::now();
        let mut pacer = Pacer::new(now);
        let mut left = all(5000, Change::State);
        let (mut seconds, mut most) = (0.0, 0);
        while !left.is_empty() {
            let (chosen, later) = pacer.choose(left.clone(), 5000, now);
            left.retain(|(name, _)| !chosen.contains(name));
            most = most.max(chosen.len());
            assert_eq!(later.is_some(), !left.is_empty());
            now += Duration::from_secs(1);
            seconds += 1.0;
        }
        assert!(most <= 100, "{most} writes at once");
        assert!((95.0..=105.0).contains(&seconds), "5,000 states take {seconds} s");
    }

    #[test]
    fn figures_wait_and_states_do_not() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        assert_eq!(pacer.choose(all(1, Change::Detail), 3, now).0.len(), 1, "the first is due");
        let soon = now + Duration::from_millis(500);
        let (chosen, later) = pacer.choose(all(1, Change::Detail), 3, soon);
        assert_eq!((chosen.len(), later), (0, Some(now + DETAIL)));
        assert_eq!(pacer.choose(all(1, Change::State), 3, soon).0.len(), 1);

        // In a large cluster a change that all acknowledge is not 5,000 writes every two seconds.
        let mut pacer = Pacer::new(now);
        pacer.written = all(5000, Change::Detail).into_iter().map(|(name, _)| (name, now)).collect();
        let (chosen, later) = pacer.choose(all(5000, Change::Detail), 5000, now + Duration::from_secs(100));
        assert_eq!((chosen.len(), later), (0, Some(now + Duration::from_secs(200))));
    }

    #[test]
    fn a_state_overtakes_figures_that_wait() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        let mut wanted = all(300, Change::Detail);
        wanted.push(("zz".to_owned(), Change::State));
        let (chosen, _) = pacer.choose(wanted, 300, now);
        assert_eq!((chosen.len(), chosen[0].as_str()), (100, "zz"));
    }
}
