//! The two servers: gRPC for agents and operators, HTTP for probes and Prometheus.
//!
//! Owns the sockets, the door's TLS and the servers' end. Must never know what is behind the services: it is given them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::service::Routes;

use crate::{
    config::Config,
    descriptors,
    http::{self, Readiness},
    metrics::Metrics,
    pki::Authority,
    rpc,
    tls::{self, Grace, Limits, ServerCertificate, Welcome},
};

/// Open connections: twice the largest cluster, since a reconnecting agent's old connection may still be there.
const CONNECTIONS: usize = 20_000;
/// Of these without a certificate that counts: nodes that are joining, each for seconds.
const STRANGERS: usize = 1024;
/// Handshakes at a time: they cost CPU, and more at once would only make each of them late.
const HANDSHAKES: usize = 256;
/// Time for streams to end when stopping.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(5);

/// Both listening sockets.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) grpc: TcpListener,
    pub(crate) http: TcpListener,
}

impl Sockets {
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let grpc =
            tls::bind(config.listen).with_context(|| format!("cannot listen on {} (option listen)", config.listen))?;
        let http = TcpListener::bind(config.http_listen)
            .await
            .with_context(|| format!("cannot listen on {} (option httpListen)", config.http_listen))?;
        Ok(Self { grpc, http })
    }

    /// Where the two listen: gRPC, HTTP.
    pub(crate) fn addresses(&self) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        Ok((self.grpc.local_addr()?, self.http.local_addr()?))
    }
}

/// Servers that run.
#[derive(Debug)]
pub(crate) struct Servers {
    stop: watch::Sender<bool>,
    servers: Vec<JoinHandle<anyhow::Result<()>>>,
    rotation: Option<JoinHandle<()>>,
}

impl Servers {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self { stop: watch::channel(false).0, servers: Vec::new(), rotation: None }
    }

    /// Serves probes and metrics.
    pub(crate) fn serve_http(&mut self, listener: TcpListener, readiness: Readiness, metrics: Arc<Metrics>) {
        let serve = http::serve(listener, readiness, metrics, told(self.stop.subscribe()));
        self.servers.push(tokio::spawn(async { serve.await.context("the HTTP server failed") }));
    }

    /// Serves these services behind TLS.
    pub(crate) fn serve_grpc(
        &mut self,
        listener: TcpListener,
        config: &Config,
        authority: &Arc<Authority>,
        services: Routes,
        welcome: Welcome,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<()> {
        let certificate = Arc::new(ServerCertificate::new(Arc::clone(authority), config.server_names.clone())?);
        let tls = tls::server_config(authority, Arc::clone(&certificate), Grace(config.renewal_grace))?;
        let limits = Limits {
            connections: descriptors::make_room(CONNECTIONS),
            strangers: STRANGERS,
            handshakes: HANDSHAKES,
            handshake_time: config.handshake_timeout,
        };
        let incoming = tls::accept(listener, tls, limits, welcome, metrics);
        self.servers.push(tokio::spawn(rpc::serve(services, incoming, told(self.stop.subscribe()))));
        self.rotation = Some(tokio::spawn(certificate.keep_fresh()));
        Ok(())
    }

    /// Takes no new connections from now on.
    pub(crate) fn close(&self) {
        self.stop.send_replace(true);
        self.rotation.iter().for_each(JoinHandle::abort);
    }

    /// Waits for the open connections to end, and cuts those that do not in time.
    pub(crate) async fn ended(self) -> anyhow::Result<()> {
        self.close();
        for mut server in self.servers {
            match tokio::time::timeout(STOP_TIME, &mut server).await {
                Ok(ended) => ended.context("a server panicked")??,
                Err(_) => {
                    tracing::warn!("connections did not end in time and are cut");
                    server.abort();
                }
            }
        }
        Ok(())
    }
}

/// Resolves once the servers are told to stop.
async fn told(mut stop: watch::Receiver<bool>) {
    // An error means that its owner is gone, which is a reason to stop too.
    let _told = stop.wait_for(|stop| *stop).await;
}
