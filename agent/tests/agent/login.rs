//! How an agent on Kubernetes gets and keeps its identity, and which controller it turns to.

mod agent;
mod controller;
mod io;

use std::time::{Duration, Instant};

use agent::{Agent, Disk};
use controller::{Authority, Controller};
use tonic::Status;
use weft_proto::ended::certificate_ended;

/// Waits until `done`, looking often.
async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn joins_once_and_reconnects_with_what_is_on_its_disk() {
    let authority = Authority::new();
    let controller = Controller::start(authority.clone()).await;
    let disk = Disk::new("a.b.first", &[&authority]);
    for _ in 0..2 {
        let mut agent = Agent::start(&disk, &[&controller]);
        agent.told().await;
        agent.until("connected", |status| status.connected).await;
    }
    assert_eq!(controller.tokens(), ["a.b.first"], "a reconnect must cost the API server nothing");
}

#[tokio::test]
async fn renews_by_joining_with_the_token_of_the_day() {
    let authority = Authority::new();
    let controller = Controller::start(authority.clone()).await;
    controller.behave(|manner| manner.lifetime = Duration::from_secs(3));
    let disk = Disk::new("a.b.first", &[&authority]);
    let mut agent = Agent::start(&disk, &[&controller]);
    agent.told().await;
    disk.exchange_token("a.b.second");
    controller.behave(|manner| manner.lifetime = Duration::from_secs(3600));
    agent.told().await;
    assert_eq!(controller.tokens(), ["a.b.first", "a.b.second"]);
}

#[tokio::test]
async fn a_renewal_that_fails_costs_no_stream() {
    let authority = Authority::new();
    let controller = Controller::start(authority.clone()).await;
    controller.behave(|manner| manner.lifetime = Duration::from_secs(3));
    let disk = Disk::new("a.b.c", &[&authority]);
    let mut agent = Agent::start(&disk, &[&controller]);
    agent.told().await;
    controller.behave(|manner| manner.joins = Some(Status::unavailable("the API server cannot be asked")));
    until("the renewal", || controller.tokens().len() == 2).await;
    // Had the answer ended the stream, another would be asked for at once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(controller.streams(), 1);
    assert!(agent.status.borrow().connected);
}

#[tokio::test]
async fn a_refused_identity_joins_again_at_once() {
    let authority = Authority::new();
    let controller = Controller::start(authority.clone()).await;
    let disk = Disk::new("a.b.first", &[&authority]);
    Agent::start(&disk, &[&controller]).told().await;
    controller.behave(|manner| manner.streams = Some(Status::unauthenticated("of an earlier life")));
    disk.exchange_token("a.b.second");
    let mut agent = Agent::start(&disk, &[&controller]);
    until("a second join", || controller.tokens().len() == 2).await;
    controller.behave(|manner| manner.streams = None);
    agent.told().await;
    assert!(controller.tokens()[1..].iter().all(|token| token == "a.b.second"), "{:?}", controller.tokens());
}

#[tokio::test]
async fn a_certificate_that_has_ended_by_the_controllers_clock_is_renewed() {
    let authority = Authority::new();
    let controller = Controller::start(authority.clone()).await;
    let disk = Disk::new(&authority.join_token(), &[]);
    Agent::start_with_join_token(&disk, &[&controller]).told().await;
    controller.behave(|manner| manner.streams = Some(certificate_ended("ended an hour ago, by this clock")));
    let mut agent = Agent::start_with_join_token(&disk, &[&controller]);
    agent.told().await;
    assert_eq!((controller.tokens().len(), controller.renewals()), (1, 1));
}

#[tokio::test]
async fn another_refusal_is_no_reason_to_renew() {
    let authority = Authority::new();
    let controller = Controller::start(authority.clone()).await;
    let disk = Disk::new(&authority.join_token(), &[]);
    Agent::start_with_join_token(&disk, &[&controller]).told().await;
    controller.behave(|manner| manner.streams = Some(Status::unauthenticated("of an earlier life")));
    let mut agent = Agent::start_with_join_token(&disk, &[&controller]);
    agent.until("refused", |status| status.message.contains("of an earlier life")).await;
    assert_eq!((controller.tokens().len(), controller.renewals()), (1, 0));
}

#[tokio::test]
async fn goes_where_a_standby_points() {
    let authority = Authority::new();
    let (standby, leader) = (Controller::start(authority.clone()).await, Controller::start(authority.clone()).await);
    standby.behave(|manner| manner.standby = Some(Some(leader.address)));
    let disk = Disk::new("a.b.c", &[&authority]);
    let mut agent = Agent::start(&disk, &[&standby]);
    agent.told().await;
    let there = leader.address.to_string();
    agent.until("at the leader", |status| status.connected && status.controller == there).await;
    assert_eq!(standby.streams(), 0, "it had no identity to open one with");

    // The leader hands over: the other way round, and no further than where it was told to go.
    let back = standby.address.to_string();
    standby.behave(|manner| manner.standby = None);
    leader.behave(|manner| manner.standby = Some(Some(standby.address)));
    drop(agent);
    let mut agent = Agent::start(&disk, &[&leader]);
    agent.until("at the new leader", |status| status.connected && status.controller == back).await;
}

#[tokio::test]
async fn standbys_that_point_at_each_other_are_left_for_the_configured_one() {
    let authority = Authority::new();
    let (one, other) = (Controller::start(authority.clone()).await, Controller::start(authority.clone()).await);
    one.behave(|manner| manner.standby = Some(Some(other.address)));
    other.behave(|manner| manner.standby = Some(Some(one.address)));
    let disk = Disk::new("a.b.c", &[&authority]);
    let mut agent = Agent::start(&disk, &[&one]);
    until("some questions", || one.tokens().len() + other.tokens().len() > 8).await;
    one.behave(|manner| manner.standby = None);
    agent.told().await;
}

#[tokio::test]
async fn shows_its_token_to_nobody_it_does_not_know() {
    let (authority, other) = (Authority::new(), Authority::new());
    let controller = Controller::start(authority.clone()).await;
    let disk = Disk::new("a.b.secret", &[]);
    let mut agent = Agent::start(&disk, &[&controller]);
    agent.until("waiting", |status| status.message.contains("weft-ca")).await;
    disk.trust(&[&other]);
    agent.until("a stranger", |status| status.message.contains("certificate")).await;
    assert!(controller.tokens().is_empty(), "the token was shown to a stranger");
    // As while an authority is exchanged for another: either may vouch.
    disk.trust(&[&other, &authority]);
    agent.told().await;
    assert_eq!(controller.tokens(), ["a.b.secret"]);
}

#[tokio::test]
async fn an_exchanged_authority_is_followed() {
    let (old, new) = (Authority::new(), Authority::new());
    let disk = Disk::new("a.b.c", &[&old]);
    let before = Controller::start(old.clone()).await;
    Agent::start(&disk, &[&before]).told().await;
    disk.trust(&[&new]);
    let after = Controller::start(new.clone()).await;
    Agent::start(&disk, &[&after]).told().await;
    assert_eq!(after.tokens().len(), 1, "the old authority's certificate was no use");
}

#[tokio::test]
async fn a_certificate_that_tls_refuses_is_replaced() {
    let (old, new) = (Authority::new(), Authority::new());
    let disk = Disk::new("a.b.c", &[&old, &new]);
    let before = Controller::start(old.clone()).await;
    Agent::start(&disk, &[&before]).told().await;
    // Both are trusted by the agent still, and the controller takes the new one's certificates only.
    let after = Controller::trusting(new.clone(), &new).await;
    Agent::start(&disk, &[&after]).told().await;
    assert_eq!(after.tokens().len(), 1);
}

#[tokio::test]
async fn a_controller_of_the_list_is_found_when_the_configured_address_leads_nowhere() {
    let authority = Authority::new();
    let controller = Controller::start(authority.clone()).await;
    let nowhere = Controller::start(authority.clone()).await;
    nowhere.behave(|manner| manner.standby = Some(None));
    let disk = Disk::new("a.b.c", &[&authority]);
    let mut agent = Agent::start(&disk, &[&nowhere]);
    until("a question in vain", || !nowhere.tokens().is_empty()).await;
    // The list comes while the agent runs, as the kubelet renews what it mounts.
    disk.list(&[&controller]);
    agent.told().await;
    let there = controller.address.to_string();
    agent.until("at the listed one", |status| status.connected && status.controller == there).await;
    drop(agent);

    // What worked is known to the next start, whatever became of the list.
    disk.list(&[]);
    let mut agent = Agent::start(&disk, &[&nowhere]);
    agent.told().await;
    agent.until("there again", |status| status.connected && status.controller == there).await;
}
