//! Who may speak for which node.

use tonic::Code;
use weft_proto::v1::{RenewRequest, join_service_client::JoinServiceClient};

use crate::{
    agent::{Agent, hello, name},
    harness::{Cluster, csr, new_key},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_speaks_for_its_own_node_only() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let n1 = cluster.join("n1").await;
    cluster.join("n2").await;
    let refused = Agent::open(&cluster, &n1, hello("n2", &["192.0.2.2/24"])).await.err().expect("another's name");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(cluster.peer("n2").await.underlay_addresses.is_empty(), "n1 spoke for n2");

    let operator = cluster.operator_credentials();
    let refused = Agent::open(&cluster, &operator, hello("n1", &[])).await.err().expect("an operator is no node");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_agent_is_refused_on_open_and_new_streams_and_at_renewal() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (mut stale, old) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let channel = cluster.channel(Some(&old)).await;
    let life = stale.view.member(&name("n1")).expect("a member").incarnation;

    // A replacement machine joins under the same name, on another address.
    let (fresh, _) = Agent::join(&cluster, "n1", &["192.0.2.2/24"]).await;
    let status = stale.end().await;
    assert_eq!(status.code(), Code::Unauthenticated, "the open stream: {status}");
    let refused = Agent::open(&cluster, &old, hello("n1", &["192.0.2.1/24"])).await.err().expect("an old life");
    assert_eq!(refused.code(), Code::Unauthenticated, "a new stream: {refused}");
    let renewal = JoinServiceClient::new(channel).renew(RenewRequest { csr_der: csr(&new_key()) }).await;
    assert_eq!(renewal.expect_err("an old life").code(), Code::Unauthenticated, "renewal");

    let member = fresh.view.member(&name("n1")).expect("a member");
    assert!(member.incarnation > life, "{} after {life}", member.incarnation);
    assert_eq!(member.underlay.v4.map(|underlay| underlay.to_string()).as_deref(), Some("192.0.2.2/24"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_stream_of_a_node_wins() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (mut first, credentials) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let mut second = Agent::open(&cluster, &credentials, hello("n1", &["192.0.2.1/24"])).await.expect("a stream");
    assert_eq!(first.end().await.code(), Code::Aborted);
    second.until(|view| view.len() == 1).await;
    assert_eq!(cluster.status().await.connected, 1, "the end of the first took the second with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_begins_with_one_hello() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let credentials = cluster.join("n1").await;
    let mut wrong = hello("n1", &["192.0.2.1/24"]);
    wrong.digest = vec![1, 2, 3];
    let refused = Agent::open(&cluster, &credentials, wrong).await.err().expect("no digest");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("hello.digest"), "{refused}");

    let channel = cluster.channel(None).await;
    let mut client = weft_proto::v1::membership_service_client::MembershipServiceClient::new(channel);
    let refused = client.watch(tokio_stream::empty()).await.expect_err("no certificate");
    assert_eq!(refused.code(), Code::Unauthenticated);
}
