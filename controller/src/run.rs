//! The controller as a whole.
//!
//! Owns starting its parts in order (store, authority, cluster, servers) and stopping them in the opposite one. Must
//! never serve before the new term is persisted.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    clock::SystemClock,
    cluster::{self, Admission, Cluster, Rules},
    config::{Config, StoreLocation},
    descriptors, http, init,
    metrics::Metrics,
    rpc,
    store::{RedbStore, Store, StoreError},
    tls::{self, Limits, ServerCertificate},
};

/// Open connections: twice the largest cluster, since a reconnecting agent's old connection may still be there.
const CONNECTIONS: usize = 20_000;
/// Of these without a certificate: nodes that are joining, each for seconds.
const STRANGERS: usize = 1024;
/// Handshakes at a time: they cost CPU, and more at once would only make each of them late.
const HANDSHAKES: usize = 256;
/// Time for streams to end when stopping.
const STOP_TIME: Duration = Duration::from_secs(5);

/// A controller that serves.
#[derive(Debug)]
pub struct Running {
    grpc: SocketAddr,
    http: SocketAddr,
    cluster: Cluster,
    stop: watch::Sender<bool>,
    actor: JoinHandle<Result<(), StoreError>>,
    servers: Vec<JoinHandle<anyhow::Result<()>>>,
    rotation: JoinHandle<()>,
}

/// Runs until `shutdown`, or until the store fails for good.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut running = start(config).await?;
    tokio::select! {
        () = shutdown => running.stop().await,
        error = running.failed() => Err(error),
    }
}

/// Starts and returns once it serves.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let store = open_store(config.store.clone()).await?;
    start_with(config, store).await
}

async fn open_store(location: StoreLocation) -> anyhow::Result<Arc<dyn Store>> {
    let StoreLocation::Redb(path) = location else {
        anyhow::bail!("the store is in Kubernetes, and this controller is started outside of it: call `run`")
    };
    let store = tokio::task::spawn_blocking(move || RedbStore::open(&path)).await.context("opening the store")??;
    Ok(Arc::new(store))
}

async fn start_with(config: Config, store: Arc<dyn Store>) -> anyhow::Result<Running> {
    let metrics = Arc::new(Metrics::default());
    let authority = Arc::new(init::load_authority(&config.data_dir)?);
    // Bound before the term is taken, so that a second controller on the same port does not take one for nothing.
    let listener =
        tls::bind(config.listen).with_context(|| format!("cannot listen on {} (option listen)", config.listen))?;
    let http_listener = tokio::net::TcpListener::bind(config.http_listen)
        .await
        .with_context(|| format!("cannot listen on {} (option httpListen)", config.http_listen))?;
    let (grpc, http) = (listener.local_addr()?, http_listener.local_addr()?);
    let rules = Rules {
        settings: config.settings.clone(),
        pools: config.pools.clone(),
        admission: Admission::Tokens,
        acknowledge_timeout: config.acknowledge_timeout,
        reconnect_grace: config.reconnect_grace,
        coalesce: config.coalesce_window,
    };
    let (cluster, actor) = cluster::start(store, rules, Arc::clone(&metrics), Arc::new(SystemClock)).await?;

    let certificate = Arc::new(ServerCertificate::new(Arc::clone(&authority), config.server_names.clone())?);
    let tls = tls::server_config(&authority, Arc::clone(&certificate))?;
    let connections = descriptors::make_room(CONNECTIONS);
    let limits =
        Limits { connections, strangers: STRANGERS, handshakes: HANDSHAKES, handshake_time: config.handshake_timeout };
    let incoming = tls::accept(listener, tls, limits, Arc::clone(&metrics));
    let context = rpc::Context {
        cluster: cluster.clone(),
        authority,
        metrics: Arc::clone(&metrics),
        certificate_lifetime: config.certificate_lifetime,
    };
    let (stop, stopped) = watch::channel(false);
    let grpc_server = rpc::serve(context, incoming, told(stopped.clone()));
    let http_cluster = cluster.clone();
    let http_server = async move {
        http::serve(http_listener, http_cluster, metrics, told(stopped)).await.context("the HTTP server failed")
    };
    tracing::info!(%grpc, %http, "serving");
    Ok(Running {
        grpc,
        http,
        cluster,
        stop,
        actor,
        servers: vec![tokio::spawn(grpc_server), tokio::spawn(http_server)],
        rotation: tokio::spawn(certificate.keep_fresh()),
    })
}

/// Resolves once the controller is told to stop.
async fn told(mut stop: watch::Receiver<bool>) {
    // An error means that its owner is gone, which is a reason to stop too.
    let _told = stop.wait_for(|stop| *stop).await;
}

impl Running {
    /// Where the gRPC server listens.
    pub const fn grpc_address(&self) -> SocketAddr {
        self.grpc
    }

    /// Where health and metrics are.
    pub const fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Resolves when the controller cannot go on.
    pub async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.actor).await {
            Ok(Ok(())) => anyhow::anyhow!("the cluster's task ended by itself"),
            Ok(Err(error)) => {
                anyhow::Error::new(error).context("the store cannot be used any more; start again once it can")
            }
            Err(error) => anyhow::Error::new(error).context("the cluster's task failed"),
        }
    }

    /// Ends streams with a hint to connect again, then everything else; what the store confirmed stays.
    pub async fn stop(self) -> anyhow::Result<()> {
        tracing::info!("stopping");
        // First no new connections, then no streams, so that nobody who is told to reconnect comes back here.
        self.stop.send_replace(true);
        self.cluster.stop().await;
        self.rotation.abort();
        for mut server in self.servers {
            match tokio::time::timeout(STOP_TIME, &mut server).await {
                Ok(ended) => ended.context("a server panicked")??,
                Err(_) => {
                    tracing::warn!("connections did not end in time and are cut");
                    server.abort();
                }
            }
        }
        // Its end drops the store, and with it the lock that a successor waits for.
        self.actor.await.context("the cluster's task panicked")??;
        tracing::info!("stopped");
        Ok(())
    }
}
