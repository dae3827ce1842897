//! Clients that do not behave.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;
use weft_proto::v1;

use crate::{
    agent::{Agent, hello},
    harness::{Cluster, patiently},
};

/// Fills the cluster with members, so that a snapshot is larger than any window.
async fn crowd(cluster: &Cluster, count: usize) {
    for n in 0..count {
        let address = format!("198.18.{}.{}/16", n / 250, n % 250 + 1);
        let node = format!("a-node-with-a-rather-long-name-so-that-it-takes-its-space-on-the-wire-{n:04}");
        drop(Agent::join(cluster, &node, &[&address]).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_cut_and_hinders_nobody() {
    let cluster = Cluster::start_with(&["10.0.0.0/8=24"], |options| {
        options.acknowledge_timeout = Some("1s".to_owned());
    })
    .await;
    crowd(&cluster, 20).await;
    let credentials = cluster.join("deaf").await;
    let deaf = Agent::open(&cluster, &credentials, hello("deaf", &["192.0.2.1/24"])).await.expect("a stream");
    cluster.peers_until(|peers| is(peers, "deaf", v1::PeerState::Pending)).await;
    // Never read from, never acknowledged: the others still hear of a newcomer, and the deaf one is let go.
    let (mut other, _) = Agent::join(&cluster, "other", &["192.0.2.2/24"]).await;
    other.until(|view| view.len() == 22).await;
    cluster.peers_until(|peers| is(peers, "deaf", v1::PeerState::Disconnected)).await;
    drop(deaf);
}

fn is(peers: &[v1::Peer], node: &str, state: v1::PeerState) -> bool {
    peers.iter().any(|peer| peer.node == node && peer.state() == state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_never_comes_is_given_up() {
    let cluster = Cluster::start_with(&["10.244.0.0/16=24"], |options| {
        options.handshake_timeout = Some("200ms".to_owned());
    })
    .await;
    let mut silent = TcpStream::connect(cluster.address()).await.expect("a connection");
    let mut garbage = TcpStream::connect(cluster.address()).await.expect("a connection");
    garbage.write_all(&[0x55; 64]).await.expect("sent");
    // Others get in meanwhile, and both are closed by the controller.
    cluster.join("n1").await;
    let mut rest = Vec::new();
    let _reset_or_alert = patiently("the end of garbage", garbage.read_to_end(&mut rest)).await;
    assert_eq!(patiently("the end of silence", silent.read_to_end(&mut rest)).await.ok().unwrap_or(0), 0);
    let text = metrics(&cluster).await;
    assert!(text.contains("weft_controller_tls_handshakes_total{result=\"timeout\"} 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_report_costs_the_stream_only() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (mut agent, _) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let health = v1::Health { message: "x".repeat(1 << 20), ..v1::Health::default() };
    agent.report(v1::Report { health: Some(health), ..v1::Report::default() }).await;
    assert_eq!(agent.end().await.code(), Code::OutOfRange);
    cluster.join("n2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_are_served() {
    let mut cluster = Cluster::start(&["10.244.0.0/30=30"]).await;
    let _agent = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    cluster.peers_until(|peers| is(peers, "n1", v1::PeerState::Ready)).await;
    assert!(get(&cluster, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&cluster, "/readyz").await.starts_with("HTTP/1.1 200"));
    let text = metrics(&cluster).await;
    for line in [
        "weft_controller_members 1",
        "weft_controller_connected_agents 1",
        "weft_controller_joins_total{result=\"ok\"} 1",
        "weft_controller_pool_cidrs{pool=\"10.244.0.0/30\",state=\"used\"} 1",
        "weft_controller_pool_cidrs{pool=\"10.244.0.0/30\",state=\"free\"} 0",
        "weft_controller_peers{state=\"ready\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
    }
    let address = cluster.http_address();
    cluster.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "still listening after the stop");
}

async fn metrics(cluster: &Cluster) -> String {
    get(cluster, "/metrics").await
}

async fn get(cluster: &Cluster, path: &str) -> String {
    let mut stream = TcpStream::connect(cluster.http_address()).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    text
}
