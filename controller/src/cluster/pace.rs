//! How often a node may change what every other node is told of it.
//!
//! Owns a token bucket for each node: [`BURST`] changes at once, then one in [`EVERY`]. Kept over a node's streams, since a new
//! stream is soon opened. Must never lose what was said: whoever is too fast waits, and the newest counts.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use weft_core::types::NodeName;

/// Changes at once; an address that moves, with its MTU and its family's other one, is a few.
const BURST: u32 = 5;
/// Between two, for who goes on.
const EVERY: Duration = Duration::from_secs(5);

/// When each bucket is full again; the others are.
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<NodeName, Instant>);

impl Pace {
    /// True while the node may change something.
    pub(super) fn has_room(&self, node: &NodeName, now: Instant) -> bool {
        self.0.get(node).is_none_or(|full| *full <= now + EVERY * (BURST - 1))
    }

    /// It did.
    pub(super) fn take(&mut self, node: &NodeName, now: Instant) {
        let full = self.0.entry(node.clone()).or_insert(now);
        *full = (*full).max(now) + EVERY;
    }

    /// Forgets the full ones.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.0.retain(|_, full| *full > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_few_at_once_then_one_in_a_while_and_each_node_by_itself() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let [fast, other] = ["fast", "other"].map(|name| NodeName::new(name).expect("a name"));
        let changes = |pace: &mut Pace, now: Instant| {
            let mut count = 0;
            while pace.has_room(&fast, now) {
                pace.take(&fast, now);
                count += 1;
            }
            count
        };
        assert_eq!(changes(&mut pace, start), BURST);
        assert!(pace.has_room(&other, start));
        assert_eq!(changes(&mut pace, start + EVERY - Duration::from_millis(1)), 0);
        assert_eq!(changes(&mut pace, start + EVERY), 1);
        assert_eq!(changes(&mut pace, start + EVERY * 60), BURST, "it rests, and no longer than it takes to be full");
        pace.tidy(start + EVERY * 200);
        assert!(pace.0.is_empty());
    }
}
