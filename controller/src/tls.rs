//! TLS at the controller's door.
//!
//! Owns the server's configuration and certificate, and the acceptor. A client certificate is optional here, because a
//! joining node has none; whoever needs one asks the [`Caller`]. Must never block the accept loop: handshakes run
//! beside it, with a limit in time and number.

mod acceptor;
mod certificate;
mod connection;
mod late;
mod lobby;
mod places;
mod signs;

use std::sync::Arc;

use anyhow::Context as _;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier, version::TLS13};

pub(crate) use acceptor::{Limits, accept, bind};
pub(crate) use certificate::ServerCertificate;
pub(crate) use connection::{Caller, Connection, Kill};
pub(crate) use late::{Grace, OneRenewal};
pub(crate) use lobby::{Enough, Welcome};
pub(crate) use signs::{Carrying, Signs};

use crate::pki::Authority;

/// The configuration of the gRPC server: TLS 1.3, client certificates of our own CA, stateless resumption. Nodes' certificates
/// get in for a while after their end.
pub(crate) fn server_config(
    authority: &Authority,
    certificate: Arc<ServerCertificate>,
    grace: Grace,
) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).context("the CA certificate cannot be a root of trust")?;
    let strict = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .context("cannot verify client certificates with this CA")?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .context("TLS 1.3 is not available")?
        .with_client_cert_verifier(Arc::new(late::LateVerifier::new(strict, grace)))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Tickets carry the session, so thousands of agents resume without a cache here; one is enough for one reconnect.
    config.ticketer = rustls::crypto::ring::Ticketer::new().context("cannot make keys for session tickets")?;
    config.send_tls13_tickets = 1;
    Ok(config)
}
