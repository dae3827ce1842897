//! What was done about a Node, and when to look at it again.
//!
//! Owns the patience: how long what fails or waits is left alone, and from when on it is told. Must never forget a Node
//! that waits for something that gives no sign.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use tokio::time::Instant;

use super::AGAIN;
use crate::cluster::Refusal;

/// After the first failure of the API server or the store; doubled with each that follows.
const SOON: Duration = Duration::from_secs(1);
/// So often it may fail before anybody is told, which is a quarter of a minute.
const PASSING: u32 = 4;
/// Another allocator may take that long before anybody is told.
const ALLOCATOR_TIME: Duration = Duration::from_secs(30);

/// What was done about a Node.
#[derive(Debug)]
pub(super) struct Handled {
    pub(super) uid: Option<String>,
    version: Option<String>,
    /// When to look again though nothing changed.
    pub(super) due: Option<Instant>,
    /// Since when it waits for another allocator.
    awaited: Option<Instant>,
    /// How often the API server or the store failed over it.
    failures: u32,
}

impl Handled {
    /// True where there is something to do about the Node as it is now.
    pub(super) fn is_due(&self, node: &Node, now: Instant) -> bool {
        self.version != node.metadata.resource_version || self.due.is_some_and(|due| due <= now)
    }

    /// After it was dealt with, with or without success, given what was before; and whether to tell of the refusal.
    pub(super) fn after(node: &Node, refusal: Option<&Refusal>, before: Option<&Self>, now: Instant) -> (Self, bool) {
        let (uid, version) = (node.metadata.uid.clone(), node.metadata.resource_version.clone());
        let mut handled = Self { uid, version, due: None, awaited: None, failures: 0 };
        let Some(refusal) = refusal else { return (handled, false) };
        handled.due = Some(now + AGAIN);
        let is_told = match refusal {
            Refusal::Store(_) | Refusal::Stopping => {
                handled.failures = before.map_or(1, |before| before.failures + 1);
                let pause = SOON * 2_u32.pow(handled.failures.min(6) - 1);
                handled.due = Some(now + pause.min(AGAIN));
                matches!(refusal, Refusal::Store(_)) && handled.failures > PASSING
            }
            Refusal::CleaningUp { .. } => false,
            Refusal::CidrsAwaited { .. } => {
                let since = before.and_then(|before| before.awaited).unwrap_or(now);
                handled.awaited = Some(since);
                now.duration_since(since) >= ALLOCATOR_TIME
            }
            _ => true,
        };
        (handled, is_told)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::seen::tests::node, *};

    #[test]
    fn failures_are_left_alone_for_longer_and_longer() {
        let (object, now) = (node("a", &[], &[]), Instant::now());
        let refusal = Refusal::Store("the API server is away".to_owned());
        let mut before = None;
        let mut pauses = Vec::new();
        for time in 0..8 {
            let (handled, is_told) = Handled::after(&object, Some(&refusal), before.as_ref(), now);
            assert_eq!(is_told, time >= 4, "an event over a failure that passes, or none over one that stays");
            pauses.push(handled.due.expect("it is tried again").duration_since(now).as_secs());
            before = Some(handled);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        let (handled, _) = Handled::after(&object, None, before.as_ref(), now);
        assert!(!handled.is_due(&object, now + 10 * AGAIN), "it is done, and looked at again");
    }

    #[test]
    fn another_allocator_gets_its_time() {
        let (object, now) = (node("a", &[], &[]), Instant::now());
        let refusal = Refusal::CidrsAwaited { node: "a".parse().expect("a name") };
        let (first, is_told) = Handled::after(&object, Some(&refusal), None, now);
        assert!(!is_told);
        let (later, is_told) = Handled::after(&object, Some(&refusal), Some(&first), now + ALLOCATOR_TIME);
        assert!(is_told && later.is_due(&object, now + ALLOCATOR_TIME + AGAIN));
    }

    #[test]
    fn what_changed_is_looked_at() {
        let (mut object, now) = (node("a", &[], &[]), Instant::now());
        let (handled, _) = Handled::after(&object, None, None, now);
        object.metadata.resource_version = Some("2".to_owned());
        assert!(handled.is_due(&object, now));
    }
}
