//! A leader that knows one thing: it has every agent clean up.
//!
//! Owns its listener and what agents reported. It speaks with the authority of the controller whose place it takes.

use std::{
    fs, io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use anyhow::{Context, Result};
use futures::{Stream, StreamExt as _};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::server::{Connected, Server},
};
use weft_controller::pki::{Authority, SERVER_NAME, generate_key};
use weft_e2e::{cluster::Controller, lab::Namespace};
use weft_proto::v1::{
    self, WatchRequest, WatchResponse,
    membership_service_server::{MembershipService, MembershipServiceServer},
    watch_request, watch_response,
};

const AN_HOUR: Duration = Duration::from_secs(3600);

/// What an agent said: its node, and nothing yet or that it is clean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Hello(String),
    CleanedUp(String),
}

/// Serves until it is dropped.
pub(crate) struct Leader {
    said: mpsc::UnboundedReceiver<Said>,
    server: JoinHandle<()>,
    /// Streams end with it.
    _open: watch::Sender<()>,
}

impl Leader {
    /// Takes the place of a controller that was stopped.
    pub(crate) async fn instead_of(controller: &Controller, net: &Namespace) -> Result<Self> {
        let tls = TlsAcceptor::from(Arc::new(tls(controller).await?));
        let address: SocketAddr = controller.address().parse()?;
        let listener = net.tcp_listener(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let connections = futures::stream::unfold((listener, tls), |(listener, tls)| async move {
            let accepted = async { Ok::<_, io::Error>(Secured(tls.accept(listener.accept().await?.0).await?)) };
            Some((accepted.await, (listener, tls)))
        });
        // A handshake that fails is the end of one connection only.
        let connections = connections.filter(|accepted| std::future::ready(accepted.is_ok()));
        let (sender, said) = mpsc::unbounded_channel();
        let (open, closed) = watch::channel(());
        let server = tokio::spawn(async move {
            let service = MembershipServiceServer::new(Orders { said: sender, closed });
            let _until_dropped = Server::builder().add_service(service).serve_with_incoming(connections).await;
        });
        Ok(Self { said, server, _open: open })
    }

    /// Waits for the next word of an agent.
    pub(crate) async fn hears(&mut self) -> Result<Said> {
        let said = tokio::time::timeout(weft_e2e::lab::wait::PATIENCE, self.said.recv()).await;
        said.context("no agent says anything")?.context("the leader has ended")
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn tls(controller: &Controller) -> Result<ServerConfig> {
    let read = |name: &str| fs::read_to_string(controller.directory().join(name)).with_context(|| name.to_owned());
    let (certificate, key) = (read("ca.crt")?, read("ca.key")?);
    let authority = Authority::from_pem(&certificate, &key)?;
    let key = generate_key()?;
    let issued = authority.server(&key, &[SERVER_NAME.to_owned()], AN_HOUR)?;
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(certificate.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![issued.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The service; every stream is told the same.
struct Orders {
    said: mpsc::UnboundedSender<Said>,
    closed: watch::Receiver<()>,
}

#[tonic::async_trait]
impl MembershipService for Orders {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let (said, mut closed) = (self.said.clone(), self.closed.clone());
        tokio::spawn(async move {
            let mut node = String::new();
            while let Ok(Some(request)) = requests.message().await {
                match request.message {
                    Some(watch_request::Message::Hello(hello)) => {
                        node = hello.node;
                        let _test_is_over = said.send(Said::Hello(node.clone()));
                    }
                    Some(watch_request::Message::Report(report)) if report.cleaned_up => {
                        let _test_is_over = said.send(Said::CleanedUp(node.clone()));
                    }
                    _ => {}
                }
            }
        });
        let message = Some(watch_response::Message::CleanUp(v1::CleanUp {}));
        let order = WatchResponse { revision: Some(v1::Revision { epoch: 1, sequence: 1 }), message };
        // The stream stays open: the agent is to stand still on it.
        let stream = futures::stream::iter([Ok(order)]).chain(futures::stream::pending());
        let stream = stream.take_until(async move { closed.changed().await.is_err() });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// A connection as the server wants it.
struct Secured(TlsStream<TcpStream>);

impl Connected for Secured {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
