//! The controller as a whole.
//!
//! Owns starting its parts in order (store, authority, cluster, servers) and stopping them in the opposite one. Must
//! never serve before the new term is persisted.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use tokio::task::JoinHandle;

use crate::{
    clock::SystemClock,
    cluster::{self, Cluster, Rules},
    config::{Config, StoreLocation},
    http::Readiness,
    init, kubernetes,
    metrics::Metrics,
    pki::Principal,
    rpc,
    servers::{Servers, Sockets},
    store::{RedbStore, Store, StoreError},
    tls::Grace,
};

/// A controller that serves.
#[derive(Debug)]
pub struct Running {
    grpc: SocketAddr,
    http: SocketAddr,
    cluster: Cluster,
    actor: JoinHandle<Result<(), StoreError>>,
    servers: Servers,
}

/// Runs until `shutdown`, or until it cannot go on.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    if let StoreLocation::Kubernetes(own) = &config.store {
        let own = own.clone();
        return kubernetes::run(config, *own, shutdown).await;
    }
    let mut running = start(config).await?;
    tokio::select! {
        () = shutdown => running.stop().await,
        error = running.failed() => Err(error),
    }
}

/// Starts a controller with a store of its own, and returns once it serves.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let store = open_store(config.store.clone(), config.data_dir.clone()).await?;
    start_with(config, store).await
}

async fn open_store(location: StoreLocation, data_dir: PathBuf) -> anyhow::Result<Arc<dyn Store>> {
    let StoreLocation::Redb(path) = location else {
        anyhow::bail!("the store is in Kubernetes, and this controller is started outside of it: call `run`")
    };
    let open = move || RedbStore::open_of(&data_dir, &path);
    Ok(Arc::new(tokio::task::spawn_blocking(open).await.context("opening the store")??))
}

async fn start_with(config: Config, store: Arc<dyn Store>) -> anyhow::Result<Running> {
    let metrics = Arc::new(Metrics::default());
    let authority = Arc::new(init::load_authority(&config.data_dir)?);
    // Bound before the term is taken, so that a second controller on the same port does not take one for nothing.
    let sockets = Sockets::bind(&config).await?;
    let (grpc, http) = sockets.addresses()?;
    let (cluster, actor) =
        cluster::start(store, Rules::of(&config), Arc::clone(&metrics), Arc::new(SystemClock)).await?;
    metrics.set_leader(true);
    let context = rpc::Context {
        cluster: cluster.clone(),
        authority: Arc::clone(&authority),
        metrics: Arc::clone(&metrics),
        login: Arc::new(rpc::JoinTokens {
            cluster: cluster.clone(),
            authority: Arc::clone(&authority),
            metrics: Arc::clone(&metrics),
        }),
        certificate_lifetime: config.certificate_lifetime,
        grace: Grace(config.renewal_grace),
    };
    let mut servers = Servers::new();
    let roll = Arc::clone(cluster.roll());
    let welcome = Arc::new(move |principal: &Principal| roll.counts(principal));
    servers.serve_grpc(sockets.grpc, &config, &authority, rpc::services(context), welcome, Arc::clone(&metrics))?;
    servers.serve_http(sockets.http, readiness(cluster.clone()), metrics);
    tracing::info!(%grpc, %http, "serving");
    Ok(Running { grpc, http, cluster, actor, servers })
}

fn readiness(cluster: Cluster) -> Readiness {
    Arc::new(move || match cluster.is_alive() {
        true => Ok("ready".to_owned()),
        false => Err("the store can be neither written nor read, or the controller is stopping".to_owned()),
    })
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
        cluster::failure(&mut self.actor).await
    }

    /// Ends streams with a hint to connect again, then everything else; what the store confirmed stays.
    pub async fn stop(self) -> anyhow::Result<()> {
        tracing::info!("stopping");
        // First no new connections, then no streams, so that nobody who is told to reconnect comes back here.
        self.servers.close();
        self.cluster.stop().await;
        self.servers.ended().await?;
        // Its end drops the store, and with it the lock that a successor waits for.
        self.actor.await.context("the cluster's task panicked")??;
        tracing::info!("stopped");
        Ok(())
    }
}
