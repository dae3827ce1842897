//! One replica against an API server that the test plays, and many against one that loses answers.

mod simulation;

use super::*;

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn times() -> LeaseTimes {
    LeaseTimes { duration: seconds(15), renew_deadline: seconds(10), retry_period: seconds(2) }
}

fn machine() -> Machine {
    Machine::new("me".to_owned(), times())
}

fn held(holder: &str, version: &str) -> Seen {
    Seen {
        uid: "u".to_owned(),
        version: version.to_owned(),
        holder: (!holder.is_empty()).then(|| holder.to_owned()),
        address: None,
        duration: Some(seconds(15)),
        transitions: Some(3),
    }
}

fn read(machine: &mut Machine, now: u64, seen: &Seen) {
    machine.answered(seconds(now), seconds(now), Answer::Read(seen.clone()), 0.0);
}

/// A machine that leads by a renewal sent at `sent`.
fn leading(sent: u64) -> Machine {
    let mut machine = machine();
    read(&mut machine, sent, &held("", "1"));
    machine.answered(seconds(sent), seconds(sent), Answer::Written(held("me", "2")), 0.0);
    assert!(machine.leads(seconds(sent)));
    machine
}

#[test]
fn a_lease_that_nobody_holds_is_taken_at_once() {
    let mut machine = machine();
    assert_eq!(machine.turn(seconds(0)), Turn::Read);
    read(&mut machine, 0, &held("", "1"));
    let bid = Bid { version: "1".to_owned(), transitions: 4, acquires: true };
    assert_eq!(machine.turn(seconds(0)), Turn::Bid(bid));
    assert!(!machine.leads(seconds(0)), "nothing is confirmed yet");

    let mut machine = super::Machine::new("me".to_owned(), times());
    read(&mut machine, 0, &Seen { transitions: None, duration: None, ..held("", "1") });
    assert!(matches!(machine.turn(seconds(0)), Turn::Bid(Bid { transitions: 0, .. })), "the first holder ever");
}

#[test]
fn what_another_holds_is_taken_only_after_it_did_not_change_for_long_enough() {
    let mut machine = machine();
    read(&mut machine, 1, &held("other", "1"));
    assert_eq!(machine.holder(seconds(2)), Some("other"));
    read(&mut machine, 14, &held("other", "2"));
    assert_eq!(machine.turn(seconds(16)), Turn::Read, "it changed at 14 for all we know");
    read(&mut machine, 28, &held("other", "2"));
    assert_eq!(machine.turn(seconds(28)), Turn::Wait(seconds(30)));
    read(&mut machine, 29, &held("other", "2"));
    assert!(matches!(machine.turn(seconds(31)), Turn::Bid(_)));
    assert_eq!(machine.holder(seconds(29)), None, "who has not renewed leads no more");
}

#[test]
fn the_longer_of_two_lease_durations_counts() {
    let mut machine = machine();
    let slow = Seen { duration: Some(seconds(60)), ..held("other", "1") };
    read(&mut machine, 0, &slow);
    read(&mut machine, 59, &slow);
    assert_eq!(machine.turn(seconds(61)), Turn::Bid(Bid { version: "1".to_owned(), transitions: 4, acquires: true }));
    let mut machine = super::Machine::new("me".to_owned(), times());
    read(&mut machine, 0, &slow);
    assert_eq!(machine.turn(seconds(58)), Turn::Read);
}

#[test]
fn a_leader_stops_by_itself_when_nothing_is_confirmed() {
    let mut machine = leading(100);
    for now in [102, 104, 106, 108] {
        assert_ne!(machine.turn(seconds(now)), Turn::Wait(seconds(now)));
        machine.answered(seconds(now), seconds(now), Answer::Failed, 0.0);
    }
    assert!(machine.leads(seconds(109)));
    assert!(!machine.leads(seconds(110)));
}

#[test]
fn a_renewal_counts_from_when_it_was_sent() {
    let mut machine = leading(100);
    machine.answered(seconds(102), seconds(107), Answer::Written(held("me", "3")), 0.0);
    assert_eq!(machine.until(), Some(seconds(112)));
    assert_eq!(machine.turn(seconds(107)), Turn::Bid(Bid { version: "3".to_owned(), transitions: 3, acquires: false }));
    machine.answered(seconds(107), seconds(118), Answer::Written(held("me", "4")), 0.0);
    assert!(!machine.leads(seconds(118)), "an answer that came after its deadline");
}

#[test]
fn a_lost_answer_is_looked_up_and_not_guessed() {
    let mut machine = machine();
    read(&mut machine, 0, &held("", "1"));
    machine.answered(seconds(0), seconds(5), Answer::Failed, 0.0);
    assert_eq!(machine.turn(seconds(7)), Turn::Read);
    read(&mut machine, 7, &held("me", "2"));
    assert!(!machine.leads(seconds(7)));
    assert_eq!(machine.turn(seconds(7)), Turn::Bid(Bid { version: "2".to_owned(), transitions: 3, acquires: false }));
}

#[test]
fn a_leader_that_sees_another_holder_stops_at_once() {
    let mut machine = leading(100);
    machine.answered(seconds(102), seconds(102), Answer::Conflict, 0.0);
    assert!(machine.leads(seconds(102)), "somebody may have changed an annotation");
    assert_eq!(machine.turn(seconds(102)), Turn::Read);
    read(&mut machine, 103, &held("other", "5"));
    assert!(!machine.leads(seconds(103)));
    assert_eq!(machine.holder(seconds(103)), Some("other"));
}

#[test]
fn a_lease_that_was_deleted_and_made_again_is_not_free_yet() {
    let mut machine = machine();
    read(&mut machine, 0, &held("other", "1"));
    let fresh = Seen { uid: "v".to_owned(), transitions: None, duration: None, ..held("", "9") };
    read(&mut machine, 2, &fresh);
    assert_eq!(machine.turn(seconds(4)), Turn::Read, "the other may not have noticed");
    read(&mut machine, 16, &fresh);
    assert!(matches!(machine.turn(seconds(18)), Turn::Bid(_)));

    let mut leader = leading(100);
    read(&mut leader, 102, &fresh);
    assert!(matches!(leader.turn(seconds(102)), Turn::Bid(_)), "the leader itself goes on");
}

#[test]
fn replicas_keep_apart_and_never_wait_longer_than_the_period() {
    for jitter in [0.0, 0.5, 1.0] {
        let mut machine = machine();
        machine.answered(seconds(0), seconds(0), Answer::Read(held("other", "1")), jitter);
        let Turn::Wait(next) = machine.turn(seconds(0)) else { panic!("it should wait") };
        assert!(next <= seconds(2) && next >= Duration::from_millis(1600), "{next:?}");
    }
}
