//! Who leads, decided from times and answers alone.
//!
//! Owns the rules, which keep two replicas from leading at a time as long as clocks run at about the same rate (they
//! need not show the same time):
//!
//! - a leader leads until the renew deadline after it *sent* the last renewal that was confirmed: how long the answer
//!   took, or whether a later renewal arrived, does not count;
//! - a candidate takes over what it saw unchanged for the whole lease duration, counted from when the answer that showed
//!   it *came*, and by a write that fails where anything changed since;
//! - the lease duration is longer than the renew deadline, and the longer one counts where the Lease says another.
//!
//! Must never read a clock or talk to anybody: times are given, since some moment in the past, by a clock that goes on
//! while the machine sleeps.

use std::{net::SocketAddr, time::Duration};

use super::lease::{Bid, Seen};
use crate::config::LeaseTimes;

/// The longest lease duration that can be configured: what a Lease says beyond it is nobody's of ours.
const LONGEST: Duration = Duration::from_secs(3600);

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing before that time.
    Wait(Duration),
    /// Read the Lease.
    Read,
    /// Write it.
    Bid(Bid),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Read(Seen),
    Written(Seen),
    /// The write came too late: the version is another.
    Conflict,
    /// Unknown what became of it, or certainly nothing.
    Failed,
}

/// One replica's part in the election.
#[derive(Debug)]
pub(super) struct Machine {
    me: String,
    times: LeaseTimes,
    /// How long it leads without another confirmed renewal; none where it does not.
    until: Option<Duration>,
    /// What the Lease was like, and since when it is known to be; none where that is not known.
    seen: Option<(Seen, Duration)>,
    /// What is known may be out of date, and must be read before it is acted upon.
    stale: bool,
    /// The object is not the one that was known before, so that its being free says nothing about its holder.
    replaced: bool,
    next: Duration,
}

impl Machine {
    /// A replica that begins as a candidate. `me` must be nobody else's name, nor that of an earlier run.
    pub(super) const fn new(me: String, times: LeaseTimes) -> Self {
        Self { me, times, until: None, seen: None, stale: true, replaced: false, next: Duration::ZERO }
    }

    /// True while this replica may act as the leader.
    pub(super) fn leads(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// When it stops leading unless a renewal is confirmed before.
    pub(super) const fn until(&self) -> Option<Duration> {
        self.until
    }

    /// Who holds the Lease, as far as this replica may still believe it.
    pub(super) fn holder(&self, now: Duration) -> Option<&str> {
        self.believed(now)?.holder.as_deref()
    }

    /// Where that one says that agents reach it.
    pub(super) fn address(&self, now: Duration) -> Option<SocketAddr> {
        self.believed(now).filter(|seen| seen.holder.is_some())?.address
    }

    fn believed(&self, now: Duration) -> Option<&Seen> {
        let (seen, since) = self.seen.as_ref()?;
        (now < *since + self.patience(seen)).then_some(seen)
    }

    /// What to do at this time.
    pub(super) fn turn(&self, now: Duration) -> Turn {
        if now < self.next {
            return Turn::Wait(self.next);
        }
        match &self.seen {
            Some((seen, since)) if !self.stale && self.may_take(seen, *since, now) => Turn::Bid(self.bid(seen)),
            _ => Turn::Read,
        }
    }

    /// Takes note of what became of a request that was sent at `sent`. `jitter`, from 0 to 1, keeps replicas apart.
    pub(super) fn answered(&mut self, sent: Duration, now: Duration, answer: Answer, jitter: f64) {
        let was_leading = self.leads(now);
        if !was_leading {
            self.until = None;
        }
        self.next = now + self.times.retry_period.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 5.0);
        match answer {
            Answer::Read(seen) => {
                self.note(seen, now);
                if self.held_by_another() {
                    self.until = None;
                }
                let Some((seen, since)) = &self.seen else { return };
                if self.may_take(seen, *since, now) {
                    self.next = now;
                }
            }
            Answer::Written(seen) => {
                self.note(seen, now);
                let until = sent + self.times.renew_deadline;
                // An answer that took longer than the deadline has brought nothing.
                self.until = (now < until).then_some(until);
                // What was known of another holder ends with it.
                self.replaced = false;
                // The pace of a leader's renewals is that of their sending.
                self.next = self.next.min(sent + self.times.retry_period).max(now);
                // Before the next renewal nothing need be read.
                self.stale = self.until.is_none();
            }
            Answer::Conflict => {
                self.stale = true;
                self.next = now;
            }
            Answer::Failed => self.stale = true,
        }
    }

    /// Gives up: it no longer leads, whatever the Lease says.
    pub(super) const fn give_up(&mut self) {
        self.until = None;
        self.stale = true;
    }

    fn note(&mut self, seen: Seen, now: Duration) {
        self.stale = false;
        match &self.seen {
            Some((known, _)) if *known == seen => {}
            known => {
                self.replaced = match known {
                    Some((known, _)) if known.uid == seen.uid => self.replaced && seen.transitions.is_none(),
                    Some((known, _)) => (known.holder.is_some() || self.replaced) && seen.transitions.is_none(),
                    None => false,
                };
                self.seen = Some((seen, now));
            }
        }
    }

    fn held_by_another(&self) -> bool {
        let holder = self.seen.as_ref().and_then(|(seen, _)| seen.holder.as_ref());
        holder.is_some_and(|holder| *holder != self.me)
    }

    fn may_take(&self, seen: &Seen, since: Duration, now: Duration) -> bool {
        match seen.holder.as_deref() {
            // Our own, also where we never heard that we got it: nobody else has this name.
            Some(holder) if holder == self.me => true,
            None if !self.replaced || self.leads(now) => true,
            _ => now >= since + self.patience(seen),
        }
    }

    fn patience(&self, seen: &Seen) -> Duration {
        seen.duration.unwrap_or_default().min(LONGEST).max(self.times.duration)
    }

    fn bid(&self, seen: &Seen) -> Bid {
        let acquires = seen.holder.as_deref() != Some(&self.me);
        let transitions = match seen.transitions {
            None => 0,
            Some(count) => count.saturating_add(acquires.into()),
        };
        Bid { version: seen.version.clone(), transitions, acquires }
    }
}

#[cfg(test)]
mod tests;
