//! Facts that agents report.

use tonic::Code;
use weft_proto::v1;

use crate::{
    agent::{Agent, facts, hello, name},
    harness::Cluster,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_refused_and_moves_nobody() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (mut holder, _) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let thief = cluster.join("n2").await;
    let refused = Agent::open(&cluster, &thief, hello("n2", &["192.0.2.1/24"])).await.err().expect("it is taken");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("n1") && refused.message().contains("192.0.2.1"), "{refused}");

    // On an open stream it costs the stream.
    let mut second =
        Agent::open(&cluster, &thief, hello("n2", &["192.0.2.2/24"])).await.expect("an address of its own");
    second.report(v1::Report { facts: Some(facts(&["192.0.2.1/24"])), ..v1::Report::default() }).await;
    assert_eq!(second.end().await.code(), Code::AlreadyExists);
    holder.until(|view| view.len() == 2).await;
    let held = holder.view.member(&name("n2")).expect("a member").underlay.v4.map(|underlay| underlay.to_string());
    assert_eq!(held.as_deref(), Some("192.0.2.2/24"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_of_a_disconnected_node_moves_only_to_whoever_connects_from_it() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (gone, _) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    drop(gone);
    cluster.peers_until(|peers| peers[0].state() == v1::PeerState::Disconnected).await;
    // The test connects from loopback, so it proves nothing about 192.0.2.1.
    let claimant = cluster.join("n2").await;
    let refused = Agent::open(&cluster, &claimant, hello("n2", &["192.0.2.1/24"])).await.err().expect("no proof");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("weft node delete n1"), "{refused}");
    cluster.delete("n1").await.expect("a member");
    Agent::open(&cluster, &claimant, hello("n2", &["192.0.2.1/24"])).await.expect("nobody has it now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_underlay_inside_a_pool_is_refused() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let credentials = cluster.join("n1").await;
    // Its own network, one that holds the pool, and one inside it.
    for underlay in ["10.244.3.1/24", "10.1.0.1/8"] {
        let refused = Agent::open(&cluster, &credentials, hello("n1", &[underlay])).await.err().expect(underlay);
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("10.244.0.0/16"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_address_reaches_the_others() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (mut watcher, _) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let (mover, _) = Agent::join(&cluster, "n2", &["192.0.2.2/24"]).await;
    watcher.until(|view| view.len() == 2).await;
    mover.report(v1::Report { facts: Some(facts(&["198.51.100.2/24"])), ..v1::Report::default() }).await;
    watcher
        .until(|view| {
            let member = view.member(&name("n2")).expect("a member");
            member.underlay.v4.is_some_and(|underlay| underlay.to_string() == "198.51.100.2/24")
        })
        .await;
    assert_eq!(*watcher.log.last().expect("messages"), "delta", "one change costs a snapshot");
}
