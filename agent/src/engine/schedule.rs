//! When the loop does what nobody asks for: full passes, looks at few objects, and work that may wait.
//!
//! Owns the pauses: after a burst of events, while somebody keeps changing our objects back, and after passes that failed. Must
//! never put a full pass off for longer than a minute and a bit: lost kinds of events are covered by it.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;
use weft_core::{kernel::Key, types::LinkName};

/// A full pass at least so often; events make it come sooner.
const FULL_LOOK: Duration = Duration::from_secs(60);
/// After an event, so that a burst leads to one look.
const SETTLE: Duration = Duration::from_millis(10);
/// Between two looks while somebody keeps changing our objects back.
const FIGHT_PAUSE: Duration = Duration::from_secs(1);
/// Between a failed pass and the next, doubled with each that follows.
const RETRY: Duration = Duration::from_millis(500);
/// Doubled so often at most.
const DOUBLINGS: u32 = 8;
/// Doubled so often at most if the kernel gave no answer: that passes by itself, and drift is not put back meanwhile.
const UNHEARD_DOUBLINGS: u32 = 2;
/// Between two looks at what seems mended, since an object that two hands change in turn comes again and again.
const MENDED_PAUSE: Duration = Duration::from_millis(500);
/// Changes of membership are written to disk, and probe targets renewed, at most so often.
const TIDY: Duration = Duration::from_millis(500);

/// What is due, and when.
#[derive(Debug)]
pub(super) struct Schedule {
    next_look: Instant,
    last_look: Instant,
    failed: u32,
    pods: BTreeSet<LinkName>,
    pods_at: Instant,
    mended: BTreeSet<Key>,
    mended_at: Instant,
    tidy_at: Option<Instant>,
}

/// What can be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A full pass.
    Look,
    /// A look at pods whose links changed.
    Pods,
    /// A look at deviating objects that somebody else seems to have put right.
    Mended,
    /// Work that may wait.
    Tidy,
}

/// How a full pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything is as it should be.
    Well,
    /// Something is not.
    Failed,
    /// The kernel gave no answer, for want of something that it will have again soon.
    Unheard,
}

impl Schedule {
    /// A full pass is due at once.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            next_look: now,
            last_look: now,
            failed: 0,
            pods: BTreeSet::new(),
            pods_at: now,
            mended: BTreeSet::new(),
            mended_at: now,
            tidy_at: None,
        }
    }

    /// What is due next, and when.
    pub(super) fn next(&self) -> (Instant, Due) {
        let pods = (!self.pods.is_empty()).then_some((self.pods_at, Due::Pods));
        let mended = (!self.mended.is_empty()).then_some((self.mended_at, Due::Mended));
        let tidy = self.tidy_at.map(|at| (at, Due::Tidy));
        let look = (self.next_look, Due::Look);
        [pods, mended, tidy]
            .into_iter()
            .flatten()
            .fold(look, |first, other| if other.0 < first.0 { other } else { first })
    }

    /// Brings the next full pass forward to soon after an event. `fought`: somebody keeps changing our objects back.
    pub(super) fn after_event(&mut self, fought: bool) {
        self.look_within(SETTLE, fought);
    }

    /// Brings the next full pass forward, but leaves a pause while somebody fights us.
    pub(super) fn look_within(&mut self, delay: Duration, fought: bool) {
        let pause = if fought { FIGHT_PAUSE } else { Duration::ZERO };
        let earliest = (Instant::now() + delay).max(self.last_look + pause);
        self.next_look = self.next_look.min(earliest);
    }

    /// A full pass has ended: the next one comes in a minute, or soon if something failed. Jitter keeps the nodes of a cluster,
    /// and what their passes cost, apart.
    pub(super) fn looked(&mut self, ended: Ended) {
        self.last_look = Instant::now();
        self.failed = if ended == Ended::Well { 0 } else { self.failed.saturating_add(1) };
        let pause = match ended {
            Ended::Well => FULL_LOOK,
            Ended::Unheard => RETRY.saturating_mul(1 << self.failed.min(UNHEARD_DOUBLINGS)),
            Ended::Failed => RETRY.saturating_mul(1 << self.failed.min(DOUBLINGS)).min(FULL_LOOK),
        };
        self.next_look = self.last_look + pause.mul_f64(0.8 + 0.4 * fastrand::f64());
    }

    /// Has a pod looked at soon; all that change until then are looked at together.
    pub(super) fn pod_changed(&mut self, link: LinkName, fought: bool) {
        if self.pods.is_empty() {
            self.pods_at = Instant::now() + if fought { FIGHT_PAUSE } else { SETTLE };
        }
        self.pods.insert(link);
    }

    /// The pods to be looked at; none are from then on.
    pub(super) fn take_pods(&mut self) -> BTreeSet<LinkName> {
        std::mem::take(&mut self.pods)
    }

    /// Has an object read soon that another hand seems to have put right.
    pub(super) fn seems_mended(&mut self, key: Key) {
        if self.mended.is_empty() {
            self.mended_at = (Instant::now() + SETTLE).max(self.mended_at + MENDED_PAUSE);
        }
        self.mended.insert(key);
    }

    /// The objects that seem mended; none are from then on.
    pub(super) fn take_mended(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.mended).into_iter().collect()
    }

    /// Has work done in a moment that may wait so long.
    pub(super) fn tidy_soon(&mut self) {
        self.tidy_at.get_or_insert(Instant::now() + TIDY);
    }

    /// Has it done at once.
    pub(super) fn tidy_now(&mut self) {
        self.tidy_at.get_or_insert(Instant::now());
    }

    /// That work is being done.
    pub(super) const fn tidied(&mut self) {
        self.tidy_at = None;
    }

    /// Nothing but questions is answered any more.
    pub(super) fn forget(&mut self) {
        self.pods.clear();
        self.mended.clear();
        self.tidy_at = None;
    }
}
