//! A controller that is nothing but its door: TLS with an authority of its own, certificates for whoever may join, and a
//! stream that says the agent is current.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt, stream};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, Streaming, transport::Server};
use weft_core::types::Revision;
use weft_proto::{
    connect::SERVER_NAME,
    leader::not_leading,
    v1::{
        self,
        join_service_server::{JoinService, JoinServiceServer},
        membership_service_server::{MembershipService, MembershipServiceServer},
    },
};

use super::io::Io;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Arc<Self> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        Arc::new(Self { issuer: Issuer::new(params, key), certificate })
    }

    pub(crate) fn pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.certificate.to_vec()))
    }

    /// A join token that names this authority.
    pub(crate) fn join_token(&self) -> String {
        let fingerprint: String =
            Sha256::digest(&self.certificate).iter().map(|octet| format!("{octet:02x}")).collect();
        format!("weft1.{}.{}.{fingerprint}", "0".repeat(16), "5e".repeat(32))
    }

    fn server(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    /// Backdated by an hour, as a controller's are.
    fn client(&self, csr_der: &[u8], lifetime: Duration) -> Vec<u8> {
        let request = CertificateSigningRequestDer::from(csr_der);
        let key = CertificateSigningRequestParams::from_der(&request).expect("a request").public_key;
        let mut params = CertificateParams::default();
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - Duration::from_secs(3600), now + lifetime);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&key, &self.issuer).expect("a certificate").der().to_vec()
    }
}

/// What the controller does.
#[derive(Clone)]
pub(crate) struct Manner {
    /// How long certificates are good for.
    pub(crate) lifetime: Duration,
    /// It does not lead, and says who does where it is known.
    pub(crate) standby: Option<Option<SocketAddr>>,
    /// Joins fail with this.
    pub(crate) joins: Option<Status>,
    /// Streams fail with this.
    pub(crate) streams: Option<Status>,
}

/// What was asked of it.
#[derive(Default)]
pub(crate) struct Asked {
    /// The tokens that were shown.
    pub(crate) tokens: Vec<String>,
    /// Streams that were asked for.
    pub(crate) streams: usize,
    /// Renewals that were asked for.
    pub(crate) renewals: usize,
}

/// A controller that runs until it is dropped.
pub(crate) struct Controller {
    pub(crate) address: SocketAddr,
    pub(crate) manner: Arc<Mutex<Manner>>,
    pub(crate) asked: Arc<Mutex<Asked>>,
    task: JoinHandle<()>,
}

impl Controller {
    /// One of `authority`, which takes certificates of its own authority only.
    pub(crate) async fn start(authority: Arc<Authority>) -> Self {
        let trusted = Arc::clone(&authority);
        Self::trusting(authority, &trusted).await
    }

    /// One of `authority` that takes the certificates of `trusted`.
    pub(crate) async fn trusting(authority: Arc<Authority>, trusted: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let manner = Manner { lifetime: Duration::from_secs(3600), standby: None, joins: None, streams: None };
        let (manner, asked) = (Arc::new(Mutex::new(manner)), Arc::default());
        let door = Door { authority: Arc::clone(&authority), manner: Arc::clone(&manner), asked: Arc::clone(&asked) };
        let server = Server::builder()
            .add_service(JoinServiceServer::new(door.clone()))
            .add_service(MembershipServiceServer::new(door));
        let incoming = accept(listener, acceptor(&authority, trusted));
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.expect("it serves") });
        Self { address, manner, asked, task }
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().expect("no panic"));
    }

    pub(crate) fn tokens(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").tokens.clone()
    }

    pub(crate) fn renewals(&self) -> usize {
        self.asked.lock().expect("no panic").renewals
    }

    pub(crate) fn streams(&self) -> usize {
        self.asked.lock().expect("no panic").streams
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor(authority: &Authority, trusted: &Authority) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.clone()).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build().expect("a verifier");
    let (certificate, key) = authority.server();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_client_cert_verifier(verifier);
    let chain = vec![certificate, authority.certificate.clone()];
    let mut config = config.with_single_cert(chain, key).expect("a certificate with its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn accept(listener: TcpListener, acceptor: TlsAcceptor) -> impl Stream<Item = std::io::Result<Io>> {
    stream::unfold((listener, acceptor), |(listener, acceptor)| async move {
        loop {
            let (stream, _) = listener.accept().await.expect("it listens");
            // Whoever fails at the handshake is gone.
            if let Ok(stream) = acceptor.accept(stream).await {
                return Some((Ok(Io(stream)), (listener, acceptor)));
            }
        }
    })
}

#[derive(Clone)]
struct Door {
    authority: Arc<Authority>,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<Mutex<Asked>>,
}

impl Door {
    fn manner(&self) -> Result<Manner, Status> {
        let manner = self.manner.lock().expect("no panic").clone();
        match manner.standby {
            Some(leader) => Err(not_leading("this controller is a standby", leader)),
            None => Ok(manner),
        }
    }
}

#[tonic::async_trait]
impl JoinService for Door {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let ask = request.into_inner();
        self.asked.lock().expect("no panic").tokens.push(ask.token);
        let manner = self.manner()?;
        manner.joins.map_or(Ok(()), Err)?;
        let certificate_der = self.authority.client(&ask.csr_der, manner.lifetime);
        let ca_der = self.authority.certificate.to_vec();
        Ok(Response::new(v1::JoinResponse { certificate_der, ca_der, renewal_grace_seconds: 0 }))
    }

    /// After one the streams are well.
    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        self.asked.lock().expect("no panic").renewals += 1;
        self.manner.lock().expect("no panic").streams = None;
        let certificate_der = self.authority.client(&request.get_ref().csr_der, self.manner()?.lifetime);
        Ok(Response::new(v1::RenewResponse { certificate_der, renewal_grace_seconds: 0 }))
    }
}

#[tonic::async_trait]
impl MembershipService for Door {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<Streaming<v1::WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        self.asked.lock().expect("no panic").streams += 1;
        let manner = self.manner()?;
        manner.streams.map_or(Ok(()), Err)?;
        let message = Some(v1::watch_response::Message::Current(v1::Current::default()));
        let current = v1::WatchResponse { revision: Some(Revision::new(1, 1).into()), message };
        Ok(Response::new(Box::pin(stream::once(async { Ok(current) }).chain(stream::pending()))))
    }
}
