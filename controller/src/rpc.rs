//! gRPC: the way in from agents and operators.
//!
//! Owns the services and who may call which. Must never decide anything about the cluster: it checks form and identity,
//! asks [`Cluster`](crate::cluster::Cluster), and says the answer in gRPC.

mod doorkeeper;
mod join;
mod late;
mod login;
mod operator;
mod status;
pub(crate) mod watch;

use std::{io, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio_stream::Stream;
use tonic::{service::Routes, transport::Server};
use weft_proto::v1::{join_service_server::JoinServiceServer, operator_service_server::OperatorServiceServer};

pub(crate) use login::{Attempt, JoinTokens, Login, LoginError, Renewal, TokenFault};

use crate::{
    cluster::Cluster,
    metrics::Metrics,
    pki::Authority,
    tls::{Connection, Grace},
};

/// What the services need.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) cluster: Cluster,
    pub(crate) authority: Arc<Authority>,
    pub(crate) metrics: Arc<Metrics>,
    /// What a node joins with.
    pub(crate) login: Arc<dyn Login>,
    /// How long node certificates are good for.
    pub(crate) certificate_lifetime: Duration,
    /// How long after its end one is renewed.
    pub(crate) grace: Grace,
}

/// Largest message taken from anybody, in bytes: reports with 64 problems are below 64 KiB.
const LARGEST_MESSAGE: usize = 128 << 10;
/// Streams of one connection.
const STREAMS: u32 = 16;

/// The services of a controller that leads, or needs no leader.
pub(crate) fn services(context: Context) -> Routes {
    let join = JoinServiceServer::new(join::Join(context.clone())).max_decoding_message_size(LARGEST_MESSAGE);
    let operator = OperatorServiceServer::new(operator::Operator(context.clone()))
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(usize::MAX);
    Routes::new(watch::WatchServer::new(context)).add_service(join).add_service(operator)
}

/// Serves until `shutdown` and until the open streams have ended.
pub(crate) async fn serve(
    services: Routes,
    incoming: impl Stream<Item = io::Result<Connection>>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .http2_max_header_list_size(8 << 10)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(128 << 10)
        .add_routes(doorkeeper::before(services))
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
        .context("the gRPC server failed")
}
