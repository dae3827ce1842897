//! OperatorService: what the CLI asks.
//!
//! Owns its form. Must never show a token a second time: only its hash is kept.

use std::{pin::Pin, time::Duration};

use futures::{Stream, stream};
use tonic::{Request, Response, Status, async_trait};
use weft_core::{alloc::Usage, standing::Peer, types::NodeName};
use weft_proto::{
    convert::{ConvertError, to_cidr},
    v1::{
        self, CreateTokenRequest, CreateTokenResponse, DeleteNodeRequest, DeleteNodeResponse, GetStatusRequest,
        GetStatusResponse, ListPeersRequest, ListPeersResponse, PoolUsage, WatchPeersRequest, WatchPeersResponse,
        operator_service_server::OperatorService,
    },
};

use super::{Context, status};
use crate::{
    clock,
    cluster::{Cluster, Refusal},
    pki::JoinToken,
    store::TokenRecord,
};

/// Watchers hear of changes at most twice a second.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Lifetimes of join tokens in seconds: default, shortest, longest.
const TOKEN_LIFETIME: (u64, u64, u64) = (3600, 60, 604_800);

#[derive(Debug)]
pub(super) struct Operator(pub(super) Context);

fn authorize<T>(request: &Request<T>) -> Result<String, Status> {
    status::operator(&status::caller(request.extensions())?, clock::unix_seconds())
}

fn to_wire(peers: &[Peer]) -> Vec<v1::Peer> {
    peers.iter().map(v1::Peer::from).collect()
}

/// The list now and after each change, until the cluster stops.
fn peer_lists(cluster: Cluster) -> impl Stream<Item = Result<WatchPeersResponse, Status>> + Send {
    let version = cluster.peers_version();
    stream::unfold((cluster, version, false), |(cluster, mut version, is_next)| async move {
        if is_next {
            tokio::time::sleep(WATCH_INTERVAL).await;
            version.changed().await.ok()?;
        }
        version.mark_unchanged();
        let list = cluster.peers().await;
        let response = list.map(|peers| WatchPeersResponse { peers: to_wire(&peers) }).map_err(Status::from);
        Some((response, (cluster, version, true)))
    })
}

fn pool_usage(usage: &Usage) -> PoolUsage {
    PoolUsage {
        cidr: Some(to_cidr(usage.pool.cidr().network())),
        node_prefix: usage.pool.node_prefix().into(),
        used: usage.used,
        quarantined: usage.quarantined,
        total: usage.total,
    }
}

#[async_trait]
impl OperatorService for Operator {
    async fn list_peers(&self, request: Request<ListPeersRequest>) -> Result<Response<ListPeersResponse>, Status> {
        authorize(&request)?;
        let peers = self.0.cluster.peers().await?;
        Ok(Response::new(ListPeersResponse { peers: to_wire(&peers) }))
    }

    type WatchPeersStream = Pin<Box<dyn Stream<Item = Result<WatchPeersResponse, Status>> + Send>>;

    async fn watch_peers(
        &self,
        request: Request<WatchPeersRequest>,
    ) -> Result<Response<Self::WatchPeersStream>, Status> {
        authorize(&request)?;
        Ok(Response::new(Box::pin(peer_lists(self.0.cluster.clone()))))
    }

    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        authorize(&request)?;
        let status = self.0.cluster.status().await?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: Some(status.revision.into()),
            settings: Some(status.settings.as_ref().into()),
            members: count(status.members),
            connected: count(status.connected),
            pools: status.pools.iter().map(pool_usage).collect(),
            started_unix_ms: status.started.0,
            acknowledged: status.acknowledged.map(Into::into),
            awaited_agents: status.awaited_agents.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let operator = authorize(&request)?;
        let request = request.into_inner();
        let node: NodeName = request.node.parse().map_err(|error| ConvertError::new("node", error))?;
        let (default, shortest, longest) = TOKEN_LIFETIME;
        let seconds = if request.lifetime_seconds == 0 { default } else { request.lifetime_seconds };
        if !(shortest..=longest).contains(&seconds) {
            let message = format!("{seconds} is out of range: give {shortest} to {longest} seconds");
            return Err(ConvertError::new("lifetime_seconds", message).into());
        }
        let token =
            JoinToken::generate(self.0.authority.fingerprint()).map_err(|error| Status::internal(error.to_string()))?;
        let expires_unix = clock::unix_seconds().saturating_add_unsigned(seconds);
        let (id, secret_hash) = (token.id, token.secret_hash());
        self.0
            .cluster
            .add_token(TokenRecord { id, secret_hash, node: node.clone(), expires_unix, bound: None })
            .await?;
        tracing::info!(%operator, %node, token = %id, "join token made");
        Ok(Response::new(CreateTokenResponse { token: token.reveal(), expires_unix }))
    }

    async fn delete_node(&self, request: Request<DeleteNodeRequest>) -> Result<Response<DeleteNodeResponse>, Status> {
        let operator = authorize(&request)?;
        let node: NodeName = request.into_inner().node.parse().map_err(|error| ConvertError::new("node", error))?;
        let revision = self.0.cluster.delete_node(node.clone()).await.map_err(|refusal| match refusal {
            Refusal::UnknownNode { node } => Status::not_found(format!("there is no node {node}: see `weft peers`")),
            other => other.into(),
        })?;
        tracing::info!(%operator, %node, %revision, "node deleted");
        Ok(Response::new(DeleteNodeResponse { revision: Some(revision.into()) }))
    }
}
