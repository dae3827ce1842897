//! Connections by the dozen: nobody keeps others out by having many of them.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::io::AsyncReadExt;
use tonic::{Code, Status};
use weft_proto::v1::{
    GetStatusRequest, GetStatusResponse, WatchPeersRequest, operator_service_client::OperatorServiceClient,
};

use crate::{
    agent::Agent,
    harness::{Cluster, Credentials, credentials, new_key, patiently},
    late::{authority, connect, ends_first, good, impatient},
};

const POOLS: &[&str] = &["10.244.0.0/16=24"];

/// Connections that are not missed for asking nothing while a test runs.
async fn patient() -> Cluster {
    Cluster::start_with(POOLS, |options| options.handshake_timeout = Some("60s".to_owned())).await
}

/// Holds so many connections with this certificate; each resolves when it ends.
async fn hold(cluster: &Cluster, shown: &Credentials, count: usize) -> FuturesUnordered<impl Future<Output = ()>> {
    let tls = Arc::new(cluster.tls(Some(shown)));
    let held = FuturesUnordered::new();
    for _ in 0..count {
        let mut stream = connect(cluster, &tls).await;
        held.push(async move { drop(stream.read_to_end(&mut Vec::new()).await) });
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_has_four_connections_and_its_stream_is_not_the_one_that_goes() {
    let cluster = patient().await;
    let (mut agent, shown) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let mut held = hold(&cluster, &shown, 10).await;
    for _ in 0..7 {
        patiently("the earlier ones to be displaced", held.next()).await;
    }
    assert!(held.next().now_or_never().is_none(), "fewer than four are left");
    let _other = Agent::join(&cluster, "n2", &["192.0.2.2/24"]).await;
    agent.until(|view| view.len() == 2).await;
    // Another stream of the same node is as good as that one, and newer.
    let hello = crate::agent::hello("n1", &["192.0.2.1/24"]);
    let mut second = Agent::open(&cluster, &shown, hello).await.expect("a stream");
    second.until(|view| view.len() == 2).await;
    assert_eq!(agent.end().await.code(), Code::Aborted, "the newest stream of a node wins");
}

async fn ask(cluster: &Cluster) -> Result<GetStatusResponse, Status> {
    Ok(cluster.operator().await.get_status(GetStatusRequest {}).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_has_sixty_four_connections_and_is_told_so_on_the_next() {
    let cluster = patient().await;
    let mut watching = Vec::new();
    for _ in 0..64 {
        let stream = cluster.operator().await.watch_peers(WatchPeersRequest {}).await;
        watching.push(stream.expect("one of sixty-four").into_inner());
    }
    let refused = ask(&cluster).await.expect_err("one more");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().starts_with("operator admin has 64 connections open"), "{refused}");
    let key = new_key();
    let other = authority(&cluster).operator(&key, "other", Duration::from_secs(60)).expect("signed");
    let channel = cluster.channel(Some(&credentials(other.der().to_vec(), &key))).await;
    let answer = OperatorServiceClient::new(channel).get_status(GetStatusRequest {}).await;
    answer.expect("another operator is not concerned");
    drop(watching);
    let ask = async { while ask(&cluster).await.is_err() {} };
    patiently("places to be free again", ask).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_nodes_connections_end() {
    let cluster = patient().await;
    let (agent, shown) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let mut held = hold(&cluster, &shown, 3).await;
    let following = agent.follow();
    cluster.delete("n1").await.expect("a member");
    let (_, last) = patiently("the stream's end", following).await.expect("no panic");
    assert_eq!(last.code(), Code::Unauthenticated, "it is told why: {last}");
    for _ in 0..3 {
        patiently("the connection's end", held.next()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_follows_ends_with_the_certificate() {
    let cluster = patient().await;
    let key = new_key();
    let issued = authority(&cluster).operator(&key, "guest", Duration::from_secs(3)).expect("signed");
    let channel = cluster.channel(Some(&credentials(issued.der().to_vec(), &key))).await;
    let watch = OperatorServiceClient::new(channel).watch_peers(WatchPeersRequest {}).await;
    let mut watch = watch.expect("not ended yet").into_inner();
    patiently("the end", async { while let Ok(Some(_)) = watch.message().await {} }).await;
    ask(&cluster).await.expect("others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_nothing_does_not_stay_whatever_certificate_it_has() {
    let cluster = impatient().await;
    let good = good(&cluster).await;
    let silent = connect(&cluster, &Arc::new(cluster.tls(Some(&cluster.operator_credentials())))).await;
    ends_first(silent, good).await;
}
