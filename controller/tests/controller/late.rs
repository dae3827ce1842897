//! Certificates that have ended, shown to a controller that renews them for a while.

use std::{
    fs,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{ClientConfig, HandshakeKind};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{Code, Status, Streaming};
use weft_controller::pki::{Authority, PublicKey, SERVER_NAME};
use weft_proto::v1::{
    GetStatusRequest, JoinRequest, RenewRequest, WatchPeersRequest, WatchPeersResponse, WatchRequest,
    join_service_client::JoinServiceClient, membership_service_client::MembershipServiceClient,
    operator_service_client::OperatorServiceClient, watch_request,
};

use crate::{
    agent::{Agent, hello, name},
    harness::{Cluster, Credentials, credentials, csr, new_key, patiently},
};

const POOLS: &[&str] = &["10.244.0.0/16=24"];

pub(crate) fn authority(cluster: &Cluster) -> Authority {
    let pem = |file: &str| fs::read_to_string(cluster.config.data_dir.join(file)).expect("what init wrote");
    Authority::from_pem(&pem("ca.crt"), &pem("ca.key")).expect("an authority")
}

/// A certificate of node n1 with this much of its life left, and its key.
fn certificate(cluster: &Cluster, life: u64, left: Duration) -> (Credentials, rcgen::KeyPair) {
    let key = new_key();
    let public = PublicKey::of_request(&csr(&key)).expect("a request");
    let issued = authority(cluster).node(&public, &name("n1"), life, left).expect("signed");
    (credentials(issued.der().to_vec(), &key), key)
}

/// Node n1 joins; answers with its life.
async fn join(cluster: &Cluster) -> u64 {
    let (agent, _) = Agent::join(cluster, "n1", &["192.0.2.1/24"]).await;
    agent.view.member(&name("n1")).expect("a member").incarnation
}

async fn renew(cluster: &Cluster, shown: &Credentials, key: &rcgen::KeyPair) -> Result<Credentials, Status> {
    let mut client = JoinServiceClient::new(cluster.channel(Some(shown)).await);
    let answer = client.renew(RenewRequest { csr_der: csr(key) }).await?.into_inner();
    Ok(credentials(answer.certificate_der, key))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_certificate_has_ended_is_given_another_and_goes_on() {
    let cluster = Cluster::start(POOLS).await;
    let life = join(&cluster).await;
    let (ended, key) = certificate(&cluster, life, Duration::ZERO);
    let renewed = renew(&cluster, &ended, &key).await.expect("it has just ended");
    let mut agent = Agent::open(&cluster, &renewed, hello("n1", &["192.0.2.1/24"])).await.expect("a member");
    agent.until(|view| view.len() == 1).await;
    assert_eq!(agent.view.member(&name("n1")).expect("a member").incarnation, life, "it is another life");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_an_ended_certificate_is_good_for_one_renewal_of_its_key() {
    let cluster = Cluster::start(POOLS).await;
    let life = join(&cluster).await;
    let token = cluster.token("n1").await;
    let (ended, key) = certificate(&cluster, life, Duration::ZERO);
    let channel = cluster.channel(Some(&ended)).await;

    let hello = WatchRequest { message: Some(watch_request::Message::Hello(hello("n1", &[]))) };
    let watch = MembershipServiceClient::new(channel.clone()).watch(tokio_stream::once(hello)).await;
    let refused = watch.expect_err("a stream");
    assert!(weft_proto::ended::is_certificate_ended(&refused), "an agent cannot tell why: {refused:?}");
    let mut joining = JoinServiceClient::new(channel.clone());
    let join = joining.join(JoinRequest { node: "n1".to_owned(), token, csr_der: csr(&new_key()) }).await;
    assert_eq!(join.expect_err("a join").code(), Code::Unauthenticated);
    let status = OperatorServiceClient::new(channel).get_status(GetStatusRequest {}).await;
    assert_eq!(status.expect_err("a node is no operator").code(), Code::PermissionDenied);

    let other = joining.renew(RenewRequest { csr_der: csr(&new_key()) }).await.expect_err("a key of somebody else's");
    assert_eq!(other.code(), Code::PermissionDenied, "{other}");
    joining.renew(RenewRequest { csr_der: csr(&key) }).await.expect("its own key");
    let again = joining.renew(RenewRequest { csr_der: csr(&key) }).await.expect_err("a second one");
    assert_eq!(again.code(), Code::FailedPrecondition, "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_a_member_no_more_is_given_none() {
    let cluster = Cluster::start(POOLS).await;
    let life = join(&cluster).await;
    let (stale, key) = certificate(&cluster, life - 1, Duration::ZERO);
    let refused = renew(&cluster, &stale, &key).await.err().expect("an earlier life");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let (ended, key) = certificate(&cluster, life, Duration::ZERO);
    cluster.delete("n1").await.expect("a member");
    let refused = renew(&cluster, &ended, &key).await.err().expect("deleted");
    assert!(refused.code() == Code::Unauthenticated && refused.message().contains("not a member"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_renewed_after_its_end_where_that_is_switched_off() {
    let cluster = Cluster::start_with(POOLS, |options| options.renewal_grace = Some("0".to_owned())).await;
    let life = join(&cluster).await;
    let (ended, key) = certificate(&cluster, life, Duration::ZERO);
    match cluster.try_channel(Some(&ended)).await {
        // With TLS 1.3 a client may learn of it only when it speaks.
        Ok(channel) => {
            let renewal = JoinServiceClient::new(channel).renew(RenewRequest { csr_der: csr(&key) }).await;
            renewal.expect_err("it has ended");
        }
        Err(_) => return,
    }
    let (present, key) = certificate(&cluster, life, Duration::from_secs(60));
    renew(&cluster, &present, &key).await.expect("a good one is renewed as ever");
}

/// A raw connection, which has read what the server says first: with that come the tickets to resume it.
pub(crate) async fn connect(cluster: &Cluster, tls: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(cluster.address()).await.expect("a connection");
    let name = SERVER_NAME.try_into().expect("a DNS name");
    TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.expect("the client's part of the handshake")
}

/// Waits for the end of a late connection; one with a good certificate, and older, has to outlive it.
pub(crate) async fn ends_first(mut late: TlsStream<TcpStream>, mut good: Streaming<WatchPeersResponse>) {
    let mut of_late = Vec::new();
    let over = async { while let Ok(Some(_)) = good.message().await {} };
    tokio::select! {
        _reset_or_end = patiently("the late one's end", late.read_to_end(&mut of_late)) => {}
        () = over => panic!("the late connection is kept for as long as any other"),
    }
}

/// A call that goes on, with the operator's certificate.
pub(crate) async fn good(cluster: &Cluster) -> Streaming<WatchPeersResponse> {
    cluster.operator().await.watch_peers(WatchPeersRequest {}).await.expect("an operator").into_inner()
}

pub(crate) async fn impatient() -> Cluster {
    Cluster::start_with(POOLS, |options| options.handshake_timeout = Some("200ms".to_owned())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_with_an_ended_certificate_does_not_stay() {
    let cluster = impatient().await;
    let life = join(&cluster).await;
    let good = good(&cluster).await;
    let (ended, _) = certificate(&cluster, life, Duration::ZERO);
    ends_first(connect(&cluster, &Arc::new(cluster.tls(Some(&ended)))).await, good).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_session_is_a_strangers_once_its_certificate_has_ended() {
    let cluster = impatient().await;
    let key = new_key();
    let issued = authority(&cluster).operator(&key, "admin", Duration::from_secs(3)).expect("signed");
    let operator = credentials(issued.der().to_vec(), &key);
    let tls = Arc::new(cluster.tls(Some(&operator)));
    let mut first = connect(&cluster, &tls).await;
    first.read_exact(&mut [0; 1]).await.expect("HTTP/2 settings, and tickets before them");
    let good = good(&cluster).await;
    let left = Duration::from_secs(u64::try_from(issued.ends_unix).expect("after 1970"));
    let end = UNIX_EPOCH + left;
    tokio::time::sleep(end.duration_since(SystemTime::now()).unwrap_or_default()).await;
    let resumed = connect(&cluster, &tls).await;
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed), "nothing was to be verified");
    ends_first(resumed, good).await;
}
