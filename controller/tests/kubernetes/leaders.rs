//! Two whole controllers, of which one leads.

use std::{
    net::SocketAddr,
    process::{Child, Command},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Node},
};
use kube::{Api, api::PostParams};
use rustix::process::{Pid, Signal, kill_process};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint, Uri},
};
use weft_api::names;
use weft_controller::pki::SERVER_NAME;
use weft_proto::{
    leader::named_leader,
    v1::{JoinRequest, join_service_client::JoinServiceClient},
};

use crate::{
    api::{ApiServer, NAMESPACE, free_ports},
    objects::node,
};

/// How long a Lease lasts here.
pub(crate) const LEASE: Duration = Duration::from_secs(4);
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A client's certificate and its key.
pub(crate) type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A process of its own, as in a pod of its own.
pub(crate) struct Replica {
    process: Child,
    pub(crate) grpc: SocketAddr,
    http: SocketAddr,
}

impl Replica {
    pub(crate) fn start(server: &ApiServer, name: &str) -> Self {
        let [grpc, http] = free_ports().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft-controller"));
        command
            .env("KUBECONFIG", server.kubeconfig())
            .args(["run", "--store=kubernetes", "--pool=10.244.0.0/16=24", "--node-cidrs=weft"])
            .args(["--lease-duration=4s", "--renew-deadline=2s", "--retry-period=200ms"])
            .arg(format!("--namespace={NAMESPACE}"))
            .arg(format!("--identity={name}"))
            .arg(format!("--listen={grpc}"))
            .arg(format!("--http-listen={http}"));
        Self { process: server.spawn(name, &mut command), grpc, http }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for the end of it, a good one.
    pub(crate) fn ended(&mut self) {
        assert!(self.process.wait().expect("its end").success());
    }

    /// What /readyz or /metrics says; nothing where it does not listen.
    async fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.http).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// Waits until probes are told this; says how long that took.
    pub(crate) async fn ready_as(&self, word: &str) -> Duration {
        self.ready_within(word, PATIENCE).await
    }

    pub(crate) async fn ready_within(&self, word: &str, patience: Duration) -> Duration {
        let begun = Instant::now();
        let mut last = String::new();
        while begun.elapsed() < patience {
            last = self.get("/readyz").await.unwrap_or_default();
            if last.starts_with("HTTP/1.1 200") && last.ends_with(&format!("\r\n\r\n{word}\n")) {
                return begun.elapsed();
            }
            // Probes ask; nobody tells them.
            sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain for {word:?}; it said {last}");
    }

    /// A connection of its own, with this certificate and key if there is one.
    pub(crate) async fn channel(&self, ca: &CertificateDer<'static>, shown: Option<Shown>) -> Channel {
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone()).expect("a CA");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match shown {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).expect("a key pair"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (TlsConnector::from(Arc::new(config)), self.grpc);
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let name = ServerName::try_from(SERVER_NAME).expect("a DNS name");
                let stream = connector.connect(name, TcpStream::connect(address).await?).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let channel = Endpoint::from_static("http://weft-controller").connect_with_connector(connect).await;
        channel.expect("a connection")
    }

    /// What an agent hears that tries to join.
    async fn join(&self, ca: &CertificateDer<'static>) -> Status {
        let request = JoinRequest { node: "n1".to_owned(), token: "none".to_owned(), csr_der: Vec::new() };
        JoinServiceClient::new(self.channel(ca, None).await).join(request).await.expect_err("no such token")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _ended = self.process.wait();
    }
}

pub(crate) async fn holder(server: &ApiServer) -> String {
    let lease = Api::<Lease>::namespaced(server.client(), NAMESPACE).get(names::CONTROLLER).await.expect("the Lease");
    lease.spec.and_then(|spec| spec.holder_identity).expect("a holder")
}

async fn map_value(server: &ApiServer, map: &str, key: &str) -> String {
    let map = Api::<ConfigMap>::namespaced(server.client(), NAMESPACE).get(map).await.expect("a ConfigMap");
    map.data.and_then(|mut data| data.remove(key)).expect("a value")
}

/// Starts one, which leads a cluster of the Node n1.
pub(crate) async fn single(server: &ApiServer) -> (Replica, CertificateDer<'static>) {
    Api::<Node>::all(server.client()).create(&PostParams::default(), &node("n1")).await.expect("a Node");
    let replica = Replica::start(server, "first");
    replica.ready_as("ready").await;
    let ca = map_value(server, names::CA, names::CA_CERTIFICATE).await;
    (replica, CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM"))
}

/// Starts two of which the first leads.
pub(crate) async fn pair(server: &ApiServer) -> (Replica, Replica, CertificateDer<'static>) {
    let (first, ca) = single(server).await;
    let second = Replica::start(server, "second");
    second.ready_as(&format!("standby of {}", holder(server).await)).await;
    (first, second, ca)
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_standby_names_the_leader_and_takes_over_as_soon_as_it_ends() {
    let server = ApiServer::start().await;
    let (mut first, second, ca) = pair(&server).await;
    let refusal = second.join(&ca).await;
    assert_eq!((refusal.code(), named_leader(&refusal)), (Code::Unavailable, Some(first.grpc)), "{refusal}");
    assert_ne!(first.join(&ca).await.code(), Code::Unavailable, "the leader answers by itself");
    assert!(first.get("/metrics").await.expect("metrics").contains("weft_controller_leader 1"));
    assert!(second.get("/metrics").await.expect("metrics").contains("weft_controller_leader 0"));
    let term: u64 = map_value(&server, names::CLUSTER, names::EPOCH).await.parse().expect("a number");

    first.signal(Signal::TERM);
    let took = second.ready_as("ready").await;
    assert!(took < LEASE, "it waited {took:?} for a Lease that was given back");
    assert!(first.process.wait().expect("its end").success());
    assert!(holder(&server).await.starts_with("second_"));
    let next: u64 = map_value(&server, names::CLUSTER, names::EPOCH).await.parse().expect("a number");
    assert!(next > term, "term {next} after {term}");
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_leader_that_slept_serves_nobody_when_it_wakes() {
    let server = ApiServer::start().await;
    let (first, second, ca) = pair(&server).await;
    first.signal(Signal::STOP);
    second.ready_as("ready").await;
    first.signal(Signal::CONT);
    // Whether it has noticed yet or not, it must not answer as a leader.
    let refusal = timeout(PATIENCE, first.join(&ca)).await.expect("an answer");
    assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
    first.ready_as(&format!("standby of {}", holder(&server).await)).await;
    assert_eq!(named_leader(&first.join(&ca).await), Some(second.grpc));
}
