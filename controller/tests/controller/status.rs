//! What operators are told.

use weft_proto::v1::{self, PeerState};

use crate::{
    agent::{Agent, hello},
    harness::Cluster,
};

fn row<'a>(peers: &'a [v1::Peer], node: &str) -> &'a v1::Peer {
    peers.iter().find(|peer| peer.node == node).expect("a row")
}

fn is(peers: &[v1::Peer], node: &str, state: PeerState, reason: &str) -> bool {
    peers.iter().any(|peer| peer.node == node && peer.state() == state && peer.reason == reason)
}

async fn say(agent: &Agent, health: v1::Health) {
    agent.report(v1::Report { health: Some(health), ..v1::Report::default() }).await;
}

fn lost(node: &str) -> v1::PeerProblem {
    v1::PeerProblem {
        node: node.to_owned(),
        reason: "ProbeLost".to_owned(),
        message: "through vxlan".to_owned(),
        since_unix_ms: 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_goes_from_never_connected_over_ready_to_disconnected() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (witness, _) = Agent::join(&cluster, "witness", &["192.0.2.9/24"]).await;
    let credentials = cluster.join("n1").await;
    let peers = cluster.peers_until(|peers| is(peers, "n1", PeerState::Pending, "NeverConnected")).await;
    assert!(row(&peers, "n1").message.contains("start weft-agent"), "{peers:?}");

    let mut agent = Agent::open(&cluster, &credentials, hello("n1", &["192.0.2.1/24"])).await.expect("a stream");
    agent.acknowledges = false;
    agent.until(|view| view.len() == 2).await;
    cluster.peers_until(|peers| is(peers, "n1", PeerState::Pending, "NotAcknowledged")).await;
    assert_eq!(cluster.status().await.acknowledged, None, "one agent has said nothing yet");
    agent.acknowledge().await;
    let peers = cluster.peers_until(|peers| is(peers, "n1", PeerState::Ready, "")).await;
    let ready = row(&peers, "n1").clone();
    assert_eq!((ready.revision_lag, ready.agent_version.as_str(), ready.underlay_mtu), (0, "test", 1500));

    say(&witness, v1::Health { healthy_count: 1, ..v1::Health::default() }).await;
    drop(agent);
    let peers = cluster
        .peers_until(|peers| {
            is(peers, "n1", PeerState::Disconnected, "AgentDisconnected")
                && row(peers, "n1").message.contains("still answers probes of 1 nodes")
        })
        .await;
    let since = row(&peers, "n1").since_unix_ms;
    assert!(since >= ready.since_unix_ms, "it was disconnected before it was ready");
    say(&witness, v1::Health { problems: vec![lost("n1")], problem_count: 1, ..v1::Health::default() }).await;
    let peers =
        cluster.peers_until(|peers| row(peers, "n1").message.contains("no answer to probes from witness")).await;
    assert_eq!(row(&peers, "n1").since_unix_ms, since, "news about a state must not look like a new state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_is_named_and_the_healthy_are_not() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (a, _) = Agent::join(&cluster, "a", &["192.0.2.1/24"]).await;
    let (b, _) = Agent::join(&cluster, "b", &["192.0.2.2/24"]).await;
    let (cut, _) = Agent::join(&cluster, "cut", &["192.0.2.3/24"]).await;
    for agent in [&a, &b] {
        let health =
            v1::Health { problems: vec![lost("cut")], problem_count: 1, healthy_count: 1, ..v1::Health::default() };
        say(agent, health).await;
    }
    let peers = cluster.peers_until(|peers| row(peers, "cut").message.contains("from a, b")).await;
    assert!(is(&peers, "cut", PeerState::Unreachable, "ProbeLost"), "{peers:?}");

    // The one that reaches nobody says so of everybody, and is not believed about the others.
    say(&cut, v1::Health { problems: vec![lost("a"), lost("b")], problem_count: 2, ..v1::Health::default() }).await;
    let peers = cluster.peers_until(|peers| row(peers, "cut").message.contains("none of 2 peers")).await;
    for node in ["a", "b"] {
        assert_ne!(row(&peers, node).state(), PeerState::Unreachable, "{peers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_members_word_makes_nobody_unreachable_however_often_it_is_said() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (mut accused, _) = Agent::join(&cluster, "accused", &["192.0.2.2/24"]).await;
    let (liar, _) = Agent::join(&cluster, "liar", &["192.0.2.1/24"]).await;
    let (witness, _) = Agent::join(&cluster, "witness", &["192.0.2.3/24"]).await;
    accused.until(|view| view.len() == 3).await;
    accused.acknowledge().await;
    let lies = v1::Health {
        problems: vec![lost("accused"), lost("accused")],
        problem_count: 2,
        healthy_count: 1,
        ..v1::Health::default()
    };
    // Nobody else has said anything, so that there is nothing but its word.
    say(&liar, lies.clone()).await;
    let peers = cluster.peers_until(|peers| is(peers, "accused", PeerState::Unreachable, "ProbeLost")).await;
    assert_eq!(row(&peers, "accused").message, "no answer to probes from liar (through vxlan)");
    say(&witness, v1::Health { healthy_count: 2, ..v1::Health::default() }).await;
    cluster.peers_until(|peers| is(peers, "accused", PeerState::Ready, "")).await;
    say(&liar, v1::Health { reason: "Later".to_owned(), ..lies }).await;
    let peers = cluster.peers_until(|peers| is(peers, "liar", PeerState::Degraded, "Later")).await;
    assert!(is(&peers, "accused", PeerState::Ready, ""), "{peers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_degraded_node_says_why_and_keeps_its_stream() {
    let cluster = Cluster::start_with(&["10.244.0.0/16=24"], |options| {
        options.acknowledge_timeout = Some("1s".to_owned());
    })
    .await;
    let (mut sick, _) = Agent::join(&cluster, "sick", &["192.0.2.1/24"]).await;
    sick.acknowledges = false;
    let message = "route 10.244.9.0/24: permission denied".to_owned();
    say(&sick, v1::Health { reason: "RepairFailed".to_owned(), message, ..v1::Health::default() }).await;
    let peers = cluster.peers_until(|peers| is(peers, "sick", PeerState::Degraded, "RepairFailed")).await;
    assert!(row(&peers, "sick").message.contains("permission denied"));
    // It cannot acknowledge the newcomer, and is not disconnected for it: another one is, which shows that the time is up.
    let (mut mute, _) = Agent::join(&cluster, "mute", &["192.0.2.2/24"]).await;
    mute.acknowledges = false;
    Agent::join(&cluster, "new", &["192.0.2.3/24"]).await;
    mute.end().await;
    let peer = cluster.peer("sick").await;
    assert_eq!((peer.state(), peer.reason.as_str()), (PeerState::Degraded, "RepairFailed"));
    assert!(peer.revision_lag >= 1, "{peer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_are_counted_over_all_members() {
    let cluster = Cluster::start(&["10.244.0.0/16=24", "fd00:1::/48=64"]).await;
    Agent::join(&cluster, "a1", &["192.0.2.1/24"]).await;
    Agent::join(&cluster, "a2", &["192.0.2.2/24"]).await;
    Agent::join(&cluster, "b1", &["198.51.100.1/24"]).await;
    let paths = cluster.peer("a1").await.paths;
    let of = |family: v1::Family| paths.iter().find(|path| path.family() == family).expect("a family");
    let v4 = of(v1::Family::Ipv4);
    assert_eq!((v4.direct_nodes, v4.vxlan_nodes, v4.unreached_nodes), (1, 1, 0));
    // An IPv4 underlay carries IPv6 pods in the tunnel only, also within a subnet.
    let v6 = of(v1::Family::Ipv6);
    assert_eq!((v6.direct_nodes, v6.vxlan_nodes, v6.unreached_nodes), (0, 2, 0));
}
