//! Clients that mean harm: what they send must cost them more than it costs us, and nothing to the others.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, body::Body, transport::Channel};
use tower::{Service, ServiceExt};

use crate::{
    agent::{Agent, hello},
    harness::{Cluster, patiently},
};

/// Connections of a flood; their other ends are in this process too.
const FLOOD: usize = 2000;
/// What a half-open connection may cost at most, in KiB, both ends and the runtime's share included.
const KIB_EACH: u64 = 24;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc(5)");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

async fn flood(cluster: &Cluster, first_words: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::with_capacity(FLOOD);
    for _ in 0..FLOOD {
        let mut stream = TcpStream::connect(cluster.address()).await.expect("a connection");
        stream.write_all(first_words).await.expect("sent");
        held.push(stream);
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_half_open_handshakes_keep_nobody_out() {
    let cluster = Cluster::start_with(&["10.244.0.0/16=24"], |options| {
        // Longer than the test may take: nobody is let in because others were given up.
        options.handshake_timeout = Some("60s".to_owned());
    })
    .await;
    let (mut member, _) = Agent::join(&cluster, "member", &["192.0.2.1/24"]).await;
    let before = resident_kib();
    let silent = flood(&cluster, b"").await;
    // The beginning of a TLS record that never goes on.
    let stalled = flood(&cluster, &[0x16, 3, 1]).await;
    let (_newcomer, _) = Agent::join(&cluster, "newcomer", &["192.0.2.2/24"]).await;
    member.until(|view| view.len() == 2).await;
    let grown = resident_kib().saturating_sub(before);
    let allowed = KIB_EACH * u64::try_from(2 * FLOOD).expect("a small number");
    assert!(grown < allowed, "{grown} KiB for {} half-open connections", 2 * FLOOD);
    for mut stream in silent.into_iter().chain(stalled) {
        let still_open = stream.try_read(&mut [0; 1]).expect_err("nothing was sent, and nothing closed");
        assert_eq!(still_open.kind(), std::io::ErrorKind::WouldBlock);
        drop(stream.shutdown().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_without_a_certificate_does_not_stay() {
    let cluster = Cluster::start_with(&["10.244.0.0/16=24"], |options| {
        options.handshake_timeout = Some("200ms".to_owned());
    })
    .await;
    let tls = tokio_rustls::TlsConnector::from(std::sync::Arc::new(cluster.tls(None)));
    let name = weft_controller::pki::SERVER_NAME.try_into().expect("a DNS name");
    let stream = TcpStream::connect(cluster.address()).await.expect("a connection");
    let mut stranger = tls.connect(name, stream).await.expect("a handshake without a certificate");
    let (_member, _) = Agent::join(&cluster, "member", &["192.0.2.1/24"]).await;
    let mut rest = Vec::new();
    let _reset_or_end = patiently("the stranger's end", stranger.read_to_end(&mut rest)).await;
    // A member's connection, as old as the stranger's, lives on.
    cluster.peers_until(|peers| peers.iter().any(|peer| peer.node == "member" && peer.revision_lag == 0)).await;
    assert_eq!(cluster.status().await.connected, 1);
}

/// A call of Watch whose request stream has these bytes; the status it ends with.
async fn watch_with(channel: &mut Channel, bytes: Vec<u8>) -> Code {
    let request = http::Request::post("/weft.v1.MembershipService/Watch")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(Bytes::from(bytes))))
        .expect("a request");
    let response = channel.ready().await.expect("an open connection").call(request).await.expect("an answer");
    let code = |headers: &http::HeaderMap| headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    if let Some(code) = code(response.headers()) {
        return code;
    }
    let body = response.into_body().collect().await.expect("a whole body");
    body.trailers().and_then(code).expect("a status")
}

fn framed(flag: u8, claimed: u32, bytes: &[u8]) -> Vec<u8> {
    [&[flag][..], &claimed.to_be_bytes(), bytes].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_and_giant_messages_cost_their_stream_only() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (mut member, _) = Agent::join(&cluster, "member", &["192.0.2.1/24"]).await;
    let credentials = cluster.join("hostile").await;
    let mut channel = cluster.channel(Some(&credentials)).await;
    let before = resident_kib();
    for (what, bytes, wanted) in [
        ("nothing at all", Vec::new(), Code::InvalidArgument),
        ("a message of 4 GiB by its own account", framed(0, u32::MAX, b"x"), Code::OutOfRange),
        ("one that ends early", framed(0, 100, b"short"), Code::Internal),
        ("an unknown compression", framed(1, 1, b"x"), Code::Internal),
        ("no flag", framed(7, 1, b"x"), Code::Internal),
        ("no protobuf", framed(0, 4, &[0xff; 4]), Code::Internal),
        ("a nested length beyond the end", framed(0, 3, &[0x0a, 0x7f, 0x0a]), Code::Internal),
        ("an empty message", framed(0, 0, b""), Code::InvalidArgument),
    ] {
        for _ in 0..50 {
            assert_eq!(watch_with(&mut channel, bytes.clone()).await, wanted, "{what}");
        }
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB for 400 messages that were refused");
    // The same connection is still good for a sound stream, and the member heard of it.
    let (agent, _) = (Agent::open(&cluster, &credentials, hello("hostile", &["192.0.2.9/24"])).await, &channel);
    let mut agent = agent.expect("a stream");
    agent.until(|view| view.len() == 2).await;
    member.until(|view| view.len() == 2).await;
}
