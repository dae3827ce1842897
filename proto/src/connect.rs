//! Channels to the servers of `weft.v1`: a controller over TLS, an agent over its Unix socket.
//!
//! Owns what both ends must agree on beside the messages: the controller's TLS name, ALPN, keepalives. Whom to trust is
//! the caller's to say.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier, crypto::ring::default_provider, pki_types::ServerName};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// The name in every controller's certificate, whatever address it is reached by.
pub const SERVER_NAME: &str = "weft-controller";
/// For TCP, and for everything on a Unix socket: a machine that is gone is given up soon.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For the TLS handshake after it: a controller that all its agents come back to at once is busy, and whoever gives up
/// halfway only makes it busier.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("controller {0}: its name cannot be resolved: {1}")]
    Resolve(String, io::Error),
    /// Nobody answered in time.
    #[error("{0} did not answer within {1:?}")]
    Silent(String, Duration),
    /// It was refused, by the network or by TLS.
    #[error("{0} cannot be reached: {1}")]
    Refused(String, String),
}

/// The beginning of every TLS configuration of a client: ring, and the protocol versions it deems safe.
pub fn tls_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
}

/// The end of every TLS configuration of a client: HTTP/2 only.
pub fn for_http2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// The address of a controller given as HOST:PORT.
pub async fn resolve(controller: &str) -> Result<SocketAddr, ConnectError> {
    let failed = |error| ConnectError::Resolve(controller.to_owned(), error);
    let mut addresses = tokio::net::lookup_host(controller).await.map_err(failed)?;
    addresses.next().ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "it has no address")))
}

/// A channel to the controller at `address`: one connection, of no more use once it breaks.
pub async fn controller(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    controller_from(None, address, config).await
}

/// The same from an address of this host; none leaves the choice to the kernel.
pub async fn controller_from(
    from: Option<IpAddr>,
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> Result<Channel, ConnectError> {
    let connector = tower::service_fn(move |_| {
        let config = config.clone();
        async move {
            let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {CONNECT_LIMIT:?}"));
            let stream = tokio::time::timeout(CONNECT_LIMIT, open(from, address)).await.map_err(|_| late())??;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(SERVER_NAME).expect("a valid DNS name");
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://weft-controller")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true);
    let name = || format!("controller {address}");
    let limit = CONNECT_LIMIT + HANDSHAKE_LIMIT;
    match tokio::time::timeout(limit, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(ConnectError::Refused(name(), innermost(&error))),
        Err(_) => Err(ConnectError::Silent(name(), limit)),
    }
}

async fn open(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// A channel to the agent behind `socket`.
pub async fn agent(socket: &Path) -> Result<Channel, ConnectError> {
    let path = Arc::<Path>::from(socket);
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(&path).await?)) }
    });
    let name = || format!("agent socket {}", socket.display());
    let endpoint = Endpoint::from_static("http://weft-agent");
    match tokio::time::timeout(CONNECT_LIMIT, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(ConnectError::Refused(name(), innermost(&error))),
        Err(_) => Err(ConnectError::Silent(name(), CONNECT_LIMIT)),
    }
}

/// The deepest cause says what happened; the layers above only repeat that something did.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
