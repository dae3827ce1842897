//! One term of leading.
//!
//! Owns all that runs while this replica leads, and only then: the cluster's task, the services, and the tasks that
//! read and write objects. Must never be started before the term is won, and has ended all of it when `stop` returns.

use std::sync::Arc;

use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    Leader, Replica, allocation,
    authority::{AuthorityError, Guard},
    conditions,
    events::Events,
    login::ServiceAccounts,
    nodes, policies,
    store::KubeStore,
    tokens::Reviewer,
    uninstall, vteps,
};
use crate::{
    clock::SystemClock,
    cluster::{self, Cluster, Rules},
    leader::{self, Failure, Fence, Fenced, Role},
    rpc,
    servers::STOP_TIME,
    store::StoreError,
    tls::Grace,
};

/// What runs; nothing before it was started.
pub(super) struct Term<'a> {
    replica: &'a Replica,
    fence: Fence,
    cluster: Option<Cluster>,
    actor: Option<JoinHandle<Result<(), StoreError>>>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl<'a> Term<'a> {
    pub(super) fn new(replica: &'a Replica, fence: Fence) -> Self {
        Self { replica, fence, cluster: None, actor: None, tasks: JoinSet::new() }
    }

    async fn first_failure(&mut self) -> anyhow::Error {
        if let Err(error) = self.start().await {
            return error;
        }
        let actor = self.actor.as_mut().expect("it was started");
        tokio::select! {
            error = cluster::failure(actor) => {
                // It has ended, and cannot be waited for again.
                self.actor = None;
                error
            }
            error = first_failure(&mut self.tasks) => error,
        }
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        let replica = self.replica;
        replica.objects.refill_secret(&replica.authority).await?;
        let events = Events::start(replica.client.clone(), replica.own.identity.clone());
        let store = KubeStore::new(&replica.client, &replica.own.namespace).with_events(events.clone());
        let metrics = &replica.metrics;
        let (cluster, actor) = cluster::start(
            Fenced::new(store, self.fence.clone()),
            Rules::of(&replica.config),
            Arc::clone(metrics),
            Arc::new(SystemClock),
        )
        .await?;
        (self.cluster, self.actor) = (Some(cluster.clone()), Some(actor));
        // Before anybody is served: an agent that was cleaned up must not hear of members.
        let inherited = uninstall::inherited(&replica.client, &replica.own.namespace).await?;
        if inherited != uninstall::Phase::Idle {
            cluster.order_clean_up(true).await?;
        }
        let services = rpc::services(rpc::Context {
            cluster: cluster.clone(),
            authority: Arc::clone(&replica.authority),
            metrics: Arc::clone(metrics),
            login: Arc::new(ServiceAccounts {
                reviewer: Reviewer::new(replica.client.clone(), &replica.own),
                cluster: cluster.clone(),
                metrics: Arc::clone(metrics),
            }),
            certificate_lifetime: replica.config.certificate_lifetime,
            grace: Grace(replica.config.renewal_grace),
        });
        let roll = Arc::clone(cluster.roll());
        let leader = Leader {
            client: replica.client.clone(),
            namespace: replica.own.namespace.clone(),
            cluster,
            nodes: replica.nodes.store.clone(),
            agent_nodes: replica.own.agent_nodes.clone(),
            watched: replica.nodes.clone(),
            events,
            metrics: Arc::clone(metrics),
        };
        self.tasks.spawn(nodes::run(leader.clone()));
        self.tasks.spawn(vteps::run(leader.clone()));
        self.tasks.spawn(conditions::run(leader.clone()));
        self.tasks.spawn(conditions::pools::run(leader.clone(), replica.config.pools.clone()));
        self.tasks.spawn(allocation::run(leader.clone(), replica.config.pools.clone()));
        let (objects, authority) = (replica.objects.clone(), Arc::clone(&replica.authority));
        let (fence, events) = (self.fence.clone(), leader.events.clone());
        let guard = Guard::new(leader.client.clone(), objects, authority, replica.address, fence, events);
        self.tasks.spawn(guard.run());
        self.tasks.spawn(policies::run(leader.clone(), replica.own.network_policy_engine.clone()));
        self.tasks.spawn(uninstall::run(leader, inherited));
        replica.role.send_replace(Role::Leading(services, self.fence.clone(), roll));
        metrics.set_leader(true);
        Ok(())
    }
}

impl leader::Term for Term<'_> {
    async fn run(&mut self) -> Failure {
        let error = self.first_failure().await;
        let is_final = error.downcast_ref().is_some_and(AuthorityError::is_final);
        Failure { error, is_final }
    }

    /// Ends everything: tasks that write objects first, then the streams, which are told to connect again.
    async fn stop(mut self) {
        self.replica.metrics.set_leader(false);
        self.tasks.shutdown().await;
        if let Some(cluster) = self.cluster {
            let _cut_below = timeout(STOP_TIME, cluster.stop()).await;
        }
        let Some(mut actor) = self.actor else { return };
        if timeout(STOP_TIME, &mut actor).await.is_err() {
            tracing::warn!("the cluster's task waits for the API server and is cut");
            actor.abort();
        }
    }
}

/// Why the first of the tasks has ended; never where there are none.
async fn first_failure(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    match tasks.join_next().await {
        Some(Ok(Ok(()))) => anyhow::anyhow!("a task of the leader ended by itself"),
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => anyhow::Error::new(error).context("a task of the leader failed"),
        None => std::future::pending().await,
    }
}
