//! Which controller is tried next.
//!
//! Owns the order: the configured ones in turn, then others that are known, and between them the leader that a standby names.
//! Must never let standbys that name each other lead an agent round for ever.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tonic::Status;
use weft_proto::leader::named_leader;

/// So many leaders in a row are believed; then it is the configured controllers' turn again.
const FOLLOWED: u32 = 3;
/// A leader that did not answer is not tried again sooner, whoever names it: the lease of a dead one has to end first.
const REST: Duration = Duration::from_secs(5);

/// A refusal that names another controller.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Elsewhere {
    pub(super) leader: SocketAddr,
    message: String,
}

impl Elsewhere {
    /// What a standby says, and none of anything else.
    pub(super) fn of(status: &Status) -> Option<Self> {
        named_leader(status).map(|leader| Self { leader, message: status.message().to_owned() })
    }
}

/// The controllers.
#[derive(Debug)]
pub(super) struct Doors {
    configured: Vec<String>,
    /// Others, whose turn comes after those.
    others: Vec<String>,
    at: usize,
    leader: Option<SocketAddr>,
    followed: u32,
    /// The present one answered as it should.
    well: bool,
    silent: Option<(SocketAddr, Instant)>,
}

impl Doors {
    /// The doors of these controllers, each HOST:PORT; there is at least one.
    pub(super) const fn new(configured: Vec<String>) -> Self {
        Self { configured, others: Vec::new(), at: 0, leader: None, followed: 0, well: false, silent: None }
    }

    /// The one to try now.
    pub(super) fn present(&self) -> String {
        match self.leader {
            Some(leader) => leader.to_string(),
            None => self.all().nth(self.at).or(self.configured.first()).cloned().unwrap_or_default(),
        }
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.configured.iter().chain(&self.others)
    }

    /// Others are known by now, beside the configured ones.
    pub(super) fn know(&mut self, others: Vec<String>) {
        self.others = others.into_iter().filter(|other| !self.configured.contains(other)).collect();
    }

    /// True for one that nobody has to remember.
    pub(super) fn is_configured(&self, controller: &str) -> bool {
        self.configured.iter().any(|configured| configured == controller)
    }

    /// It answered as it should: what standbys say counts again.
    pub(super) const fn answered(&mut self) {
        self.followed = 0;
        self.well = true;
    }

    /// It does not, or not any more, at `now`: a leader that was named gives way to the configured ones, of which the next gets its turn.
    pub(super) fn failed(&mut self, now: Instant) {
        let was_well = std::mem::take(&mut self.well);
        match self.leader.take() {
            Some(_) if was_well => {}
            Some(leader) => self.silent = Some((leader, now)),
            None => self.at = (self.at + 1) % self.all().count().max(1),
        }
    }

    /// It named `leader` at `now`: true where that one is next.
    pub(super) fn follow(&mut self, leader: SocketAddr, now: Instant) -> bool {
        self.well = false;
        let silent = |(known, since): (SocketAddr, Instant)| known == leader && now.duration_since(since) < REST;
        if self.followed >= FOLLOWED || self.silent.is_some_and(silent) {
            self.leader = None;
            self.followed = 0;
            return false;
        }
        self.followed += 1;
        self.leader = Some(leader);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(last: u8) -> SocketAddr {
        ([192, 0, 2, last], 7887).into()
    }

    #[test]
    fn the_configured_ones_take_turns() {
        let mut doors = Doors::new(vec!["a:1".to_owned(), "b:1".to_owned()]);
        let now = Instant::now();
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(doors.present());
            doors.failed(now);
        }
        assert_eq!(seen, ["a:1", "b:1", "a:1"]);
    }

    #[test]
    fn others_come_after_the_configured_one() {
        let mut doors = Doors::new(vec!["service:1".to_owned()]);
        let now = Instant::now();
        doors.know(vec!["a:1".to_owned(), "service:1".to_owned(), "b:1".to_owned()]);
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(doors.present());
            doors.failed(now);
        }
        assert_eq!(seen, ["service:1", "a:1", "b:1", "service:1"]);
        doors.failed(now);
        doors.know(Vec::new());
        assert_eq!(doors.present(), "service:1", "the one at hand is known no more");
    }

    #[test]
    fn a_leader_is_tried_once_and_rests_after_that() {
        let mut doors = Doors::new(vec!["service:1".to_owned()]);
        let now = Instant::now();
        assert!(doors.follow(leader(1), now));
        assert_eq!(doors.present(), "192.0.2.1:7887");
        doors.failed(now);
        assert_eq!(doors.present(), "service:1");
        assert!(!doors.follow(leader(1), now), "it was silent a moment ago");
        assert!(doors.follow(leader(2), now), "another one may lead by now");
        doors.failed(now);
        assert!(doors.follow(leader(2), now + REST));
        doors.answered();
        doors.failed(now);
        assert!(doors.follow(leader(2), now + REST), "one whose stream broke was not silent");
    }

    #[test]
    fn standbys_that_name_each_other_are_left() {
        let mut doors = Doors::new(vec!["service:1".to_owned()]);
        let now = Instant::now();
        let followed = (0..20).filter(|round| doors.follow(leader(1 + round % 2), now)).count();
        assert!(followed < 20);
        assert!((0..4).any(|_| !doors.follow(leader(1), now)));
        assert_eq!(doors.present(), "service:1");
        for _ in 0..20 {
            assert!(doors.follow(leader(1), now), "a leader that serves may change as often as it likes");
            doors.answered();
        }
    }
}
