//! A controller in a directory of its own, and clients to it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Status,
    transport::{Channel, Endpoint, Uri},
};
use weft_controller::{Config, InitOptions, Options, Running, pki::SERVER_NAME};
use weft_program::config::of_text;
use weft_proto::v1::{self, join_service_client::JoinServiceClient, operator_service_client::OperatorServiceClient};

/// A directory that is removed at the end.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weft-controller-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _best_effort = fs::remove_dir_all(&self.0);
    }
}

/// A certificate with its key, DER.
pub(crate) struct Credentials {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// A cluster's directory and, while it runs, its controller.
pub(crate) struct Cluster {
    /// Removed with the cluster.
    _dir: Dir,
    pub(crate) config: Config,
    running: Option<Running>,
}

impl Cluster {
    /// Starts a controller with these pools.
    pub(crate) async fn start(pools: &[&str]) -> Self {
        Self::start_with(pools, |_| {}).await
    }

    /// Starts a controller whose options were changed.
    pub(crate) async fn start_with(pools: &[&str], change: impl FnOnce(&mut Options)) -> Self {
        let mut cluster = Self::prepare(pools, change);
        cluster.run().await;
        cluster
    }

    /// Makes the directory only.
    pub(crate) fn prepare(pools: &[&str], change: impl FnOnce(&mut Options)) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = Dir::new();
        let mut options = Options {
            data_dir: Some(dir.0.join("data").display().to_string()),
            listen: Some("127.0.0.1:0".to_owned()),
            http_listen: Some("127.0.0.1:0".to_owned()),
            pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            // Its agents all connect over loopback.
            underlay_networks: vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
            reconnect_grace: Some("0s".to_owned()),
            coalesce_window: Some("5ms".to_owned()),
            ..Options::default()
        };
        change(&mut options);
        let file = weft_controller::init(&InitOptions { options }).expect("init");
        let text = std::fs::read_to_string(&file).expect("what init wrote");
        let (options, problems) = of_text("config.yaml", &text);
        let config = Config::check(&options, problems).expect("what init wrote");
        Self { _dir: dir, config, running: None }
    }

    pub(crate) async fn run(&mut self) {
        self.running = Some(weft_controller::start(self.config.clone()).await.expect("the controller starts"));
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().expect("it runs").stop().await.expect("a graceful stop");
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    pub(crate) fn store_path(&self) -> PathBuf {
        self.config.data_dir.join("weft.redb")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().expect("it runs").grpc_address()
    }

    pub(crate) fn http_address(&self) -> SocketAddr {
        self.running.as_ref().expect("it runs").http_address()
    }

    fn ca(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.config.data_dir.join("ca.crt")).expect("the CA that init wrote")
    }

    pub(crate) fn tls(&self, credentials: Option<&Credentials>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca()).expect("a CA");
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match credentials {
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key()).expect("a key pair"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self, credentials: Option<&Credentials>) -> Channel {
        self.try_channel(credentials).await.expect("a connection to the controller")
    }

    pub(crate) async fn try_channel(
        &self,
        credentials: Option<&Credentials>,
    ) -> Result<Channel, tonic::transport::Error> {
        let connector = TlsConnector::from(Arc::new(self.tls(credentials)));
        let address = self.address();
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let name = ServerName::try_from(SERVER_NAME).expect("a DNS name");
                let stream = connector.connect(name, TcpStream::connect(address).await?).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        Endpoint::from_static("http://weft-controller").connect_with_connector(connect).await
    }

    pub(crate) fn operator_credentials(&self) -> Credentials {
        let dir = self.config.data_dir.join("operator");
        let pem = |name: &str| dir.join(name);
        Credentials {
            chain: vec![CertificateDer::from_pem_file(pem("operator.crt")).expect("the operator's certificate")],
            key: PrivateKeyDer::from_pem_file(pem("operator.key")).expect("the operator's key"),
        }
    }

    pub(crate) async fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(self.channel(Some(&self.operator_credentials())).await)
    }

    pub(crate) async fn token(&self, node: &str) -> String {
        let request = v1::CreateTokenRequest { node: node.to_owned(), lifetime_seconds: 0 };
        self.operator().await.create_token(request).await.expect("a token").into_inner().token
    }

    pub(crate) async fn delete(&self, node: &str) -> Result<v1::Revision, Status> {
        let request = v1::DeleteNodeRequest { node: node.to_owned() };
        Ok(self.operator().await.delete_node(request).await?.into_inner().revision.expect("a revision"))
    }

    pub(crate) async fn peers(&self) -> Vec<v1::Peer> {
        self.operator().await.list_peers(v1::ListPeersRequest {}).await.expect("the peer list").into_inner().peers
    }

    pub(crate) async fn peer(&self, node: &str) -> v1::Peer {
        self.peers().await.into_iter().find(|peer| peer.node == node).expect("a row for the node")
    }

    pub(crate) async fn status(&self) -> v1::GetStatusResponse {
        self.operator().await.get_status(v1::GetStatusRequest {}).await.expect("the status").into_inner()
    }

    /// Follows the peer list until it is as wanted.
    pub(crate) async fn peers_until(&self, wanted: impl Fn(&[v1::Peer]) -> bool) -> Vec<v1::Peer> {
        let mut stream =
            self.operator().await.watch_peers(v1::WatchPeersRequest {}).await.expect("the peer list").into_inner();
        let follow = async {
            loop {
                let peers = stream.message().await.expect("a list").expect("the controller runs").peers;
                if wanted(&peers) {
                    return peers;
                }
            }
        };
        patiently("the peer list to become as wanted", follow).await
    }

    /// Asks for the first pool until it is as wanted; each answer comes after whatever was done before it.
    pub(crate) async fn pool_until(&self, wanted: impl Fn(&v1::PoolUsage) -> bool) {
        let mut operator = self.operator().await;
        let ask = async {
            loop {
                let status = operator.get_status(v1::GetStatusRequest {}).await.expect("the status").into_inner();
                if wanted(&status.pools[0]) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        patiently("the pool to become as wanted", ask).await;
    }

    /// Joins with a token and a key.
    pub(crate) async fn join_with(&self, node: &str, token: &str, key: &rcgen::KeyPair) -> Result<Credentials, Status> {
        let request = v1::JoinRequest { node: node.to_owned(), token: token.to_owned(), csr_der: csr(key) };
        let answer = JoinServiceClient::new(self.channel(None).await).join(request).await?.into_inner();
        assert_eq!(answer.ca_der, self.ca().to_vec(), "the answer carries the CA");
        Ok(credentials(answer.certificate_der, key))
    }

    /// Joins with a token and key of its own.
    pub(crate) async fn join(&self, node: &str) -> Credentials {
        self.join_with(node, &self.token(node).await, &new_key()).await.expect("a join")
    }
}

pub(crate) fn credentials(certificate: Vec<u8>, key: &rcgen::KeyPair) -> Credentials {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8");
    Credentials { chain: vec![certificate.into()], key }
}

pub(crate) fn new_key() -> rcgen::KeyPair {
    weft_controller::pki::generate_key().expect("a key")
}

pub(crate) fn csr(key: &rcgen::KeyPair) -> Vec<u8> {
    let params = rcgen::CertificateParams::default();
    params.serialize_request(key).expect("a request").der().to_vec()
}

/// Ends a test that hangs with a word about what it waited for. No result depends on the time.
pub(crate) async fn patiently<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_secs(60);
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("a copy");
}
