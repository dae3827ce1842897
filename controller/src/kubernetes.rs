//! The controller in Kubernetes.
//!
//! Owns the order: what a replica needs in any case (authority, Nodes, the open gate) comes first, so that a standby
//! leads soon after it is elected; the cluster and all that writes runs for one term only. Must never decide who leads.

mod allocation;
mod authority;
mod conditions;
mod events;
#[cfg(test)]
mod fake;
mod lease;
pub(crate) mod login;
mod nodes;
mod policies;
mod store;
mod term;
pub(crate) mod tokens;
mod uninstall;
mod vteps;

pub use lease::KubeLease;
pub use store::KubeStore;
pub use uninstall::{UninstallOptions, uninstall};

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::{Client, runtime::reflector::Store as Reflected};
use tokio::{sync::watch, task::JoinHandle};
use weft_program::error::with_causes_by;

use self::{authority::Objects, events::Events, nodes::Watched, term::Term};
use crate::{
    cluster::Cluster,
    config::{AgentNodes, Config, Kubernetes},
    leader::{Candidate, Election, LeaderGate, Role},
    metrics::Metrics,
    pki::{Authority, Principal},
    servers::{Servers, Sockets},
};

/// What the parts of a term share.
#[derive(Clone)]
struct Leader {
    client: Client,
    namespace: String,
    cluster: Cluster,
    /// All Node objects, kept warm by one watch for the whole life of the process.
    nodes: Reflected<Node>,
    /// Those that agents run on.
    agent_nodes: AgentNodes,
    /// The same, and when they changed.
    watched: Watched,
    events: Events,
    metrics: Arc<Metrics>,
}

/// What a replica has from its start to its end.
struct Replica {
    config: Config,
    own: Kubernetes,
    client: Client,
    objects: Objects,
    authority: Arc<Authority>,
    nodes: Watched,
    /// Where agents reach it when it leads.
    address: SocketAddr,
    metrics: Arc<Metrics>,
    role: watch::Sender<Role>,
}

/// What stands for election.
struct Prepared {
    replica: Replica,
    election: Election,
    /// Keeps the Nodes warm.
    watch: JoinHandle<()>,
}

/// Runs until `shutdown`.
pub(crate) async fn run(config: Config, own: Kubernetes, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let sockets = Sockets::bind(&config).await?;
    let (grpc, http) = sockets.addresses()?;
    let mut address = own.advertise;
    if address.port() == 0 {
        address.set_port(grpc.port());
    }
    let (role, _) = watch::channel(Role::Starting("it looks for the API server".to_owned()));
    let seen = role.subscribe();
    let mut servers = Servers::new();
    servers.serve_http(sockets.http, Arc::new(move || seen.borrow().readiness()), Arc::clone(&metrics));
    tracing::info!(%http, "health and metrics are served");

    let mut shutdown = std::pin::pin!(shutdown);
    let prepared = tokio::select! {
        prepared = prepare(config, own, metrics, role, address) => prepared?,
        () = &mut shutdown => return servers.ended().await,
    };
    let Prepared { replica, election, watch } = prepared;
    let services = LeaderGate(replica.role.subscribe()).routes();
    let seen = replica.role.subscribe();
    let welcome = Arc::new(move |principal: &Principal| seen.borrow().welcomes(principal));
    let (config, metrics) = (&replica.config, Arc::clone(&replica.metrics));
    servers.serve_grpc(sockets.grpc, config, &replica.authority, services, welcome, metrics)?;
    let (objects, authority) = (replica.objects.clone(), Arc::clone(&replica.authority));
    let keeper = tokio::spawn(authority::put_back(objects, authority, replica.role.subscribe()));
    tracing::info!(%grpc, replica = election.me(), "a candidate");
    let candidate = Candidate::new(election, replica.role.clone(), replica.own.lease.retry_period);
    let competed = candidate.compete(|fence| Term::new(&replica, fence), shutdown).await;
    servers.ended().await?;
    watch.abort();
    keeper.abort();
    tracing::info!("stopped");
    competed
}

/// Everything a replica needs before it may be elected; tries again for as long as the API server does not answer.
async fn prepare(
    config: Config,
    own: Kubernetes,
    metrics: Arc<Metrics>,
    role: watch::Sender<Role>,
    address: SocketAddr,
) -> anyhow::Result<Prepared> {
    let client = Client::try_default()
        .await
        .context("cannot tell where the API server is: run this in a pod, or name a kubeconfig in KUBECONFIG")?;
    let objects = Objects::new(client.clone(), &own.namespace);
    let lease = KubeLease::new(client.clone(), &own.namespace);
    let mut election = Election::new(Box::new(lease), &own.identity, address, own.lease);
    role.send_replace(Role::Starting(
        "it waits for the authority in Secret weft-ca, or for its turn to make one".to_owned(),
    ));
    let authority = loop {
        match authority::first(&objects, &mut election, own.lease.retry_period).await {
            Ok(authority) => break Arc::new(authority),
            Err(error) if !error.is_final() => {
                tracing::warn!("{error}");
                role.send_replace(Role::Starting(error.to_string()));
                tokio::time::sleep(own.lease.retry_period).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    role.send_replace(Role::Starting("it reads the Node objects".to_owned()));
    let (nodes, watch) = nodes::watch(client.clone());
    let watch = tokio::spawn(watch);
    nodes.store.wait_until_ready().await.context("the watch of Node objects has ended")?;
    let replica = Replica { config, own, client, objects, authority, nodes, address, metrics, role };
    Ok(Prepared { replica, election, watch })
}

/// An error with all that caused it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    with_causes_by(error, sentence)
}

/// An error without its causes; of what the API server answers only what it says.
fn sentence(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    }
}

/// True where a write came too late, as somebody else has written the object.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
