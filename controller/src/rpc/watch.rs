//! MembershipService: the stream to every agent.
//!
//! Owns the hand-made half of the service: responses are frames that were encoded once for all streams, so the
//! generated server, which encodes per stream, is not used. Requests are decoded as usual. Must never queue anything
//! for a stream: what it sends next is asked of the fan-out when there is room to send it.

pub(crate) mod body;
mod inbound;

use std::{
    convert::Infallible,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use tonic::{Status, Streaming, body::Body, codec::BufferSettings, server::NamedService};
use tonic_prost::ProstDecoder;
use weft_core::{membership::Told, standing::Facts, types::Revision};
use weft_proto::{
    convert,
    v1::{Hello, WatchRequest, watch_request},
};

use super::{Context, LARGEST_MESSAGE, status};
use crate::{
    clock,
    cluster::{ConnectAsk, NodeIdentity, Refusal},
    tls::Caller,
};

/// What a stream holds ready for requests, in bytes: acknowledgements have a few dozen, and larger ones make it grow.
const REQUEST_BUFFER: usize = 256;
/// How long a new stream may take to say who it is.
const HELLO_TIME: Duration = Duration::from_secs(10);

/// The service, to be routed beside the generated ones.
#[derive(Debug, Clone)]
pub(super) struct WatchServer {
    context: Context,
}

impl WatchServer {
    pub(super) const fn new(context: Context) -> Self {
        Self { context }
    }
}

impl NamedService for WatchServer {
    const NAME: &'static str = "weft.v1.MembershipService";
}

impl tower::Service<Request<Body>> for WatchServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _context: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let context = self.context.clone();
        Box::pin(async move {
            if request.uri().path() != "/weft.v1.MembershipService/Watch" {
                return Ok(Status::unimplemented("MembershipService has the method Watch only").into_http());
            }
            Ok(open(context, request).await.unwrap_or_else(Status::into_http))
        })
    }
}

/// Reads the Hello, asks the cluster, and answers with a stream.
async fn open(context: Context, request: Request<Body>) -> Result<Response<Body>, Status> {
    let caller = status::caller(request.extensions())?;
    let identity = status::node(&caller)?;
    // Before anything is read, and without the cluster's task: whoever is no member must not keep either busy.
    let known = context.cluster.roll().check(&identity, clock::unix_seconds());
    known.inspect_err(|refusal| turned_away(&context, &identity, &caller, refusal))?;
    let decoder = ProstDecoder::<WatchRequest>::new(BufferSettings::new(REQUEST_BUFFER, usize::MAX));
    let mut requests = Streaming::new_request(decoder, request.into_body(), None, Some(LARGEST_MESSAGE));
    let hello = tokio::time::timeout(HELLO_TIME, first(&mut requests)).await.map_err(|_| {
        Status::deadline_exceeded("no Hello within 10 s: the first message of a stream says who it is from")
    })??;
    let (ask, held) = check(hello, identity, &caller)?;
    let node = ask.identity.name.clone();
    let session = context.cluster.connect(ask).await?;
    let carrying = caller.signs.carry();
    let begin = context.cluster.fanout().begin(held.0, held.1);
    let (outbound, ends) = body::Outbound::new(context.cluster.fanout(), begin);
    let inbound =
        inbound::Inbound { cluster: context.cluster, metrics: context.metrics, node, caller, _carrying: carrying };
    tokio::spawn(inbound.run(requests, session, ends));

    let mut response = Response::new(Body::new(outbound.into_body()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn turned_away(context: &Context, identity: &NodeIdentity, caller: &Caller, refusal: &Refusal) {
    let (node, source) = (&identity.name, caller.address.ip().to_canonical());
    tracing::warn!(%node, %source, "stream refused: {refusal}");
    context.metrics.stream_ended(refusal.label());
}

async fn first(requests: &mut Streaming<WatchRequest>) -> Result<Hello, Status> {
    match requests.message().await?.and_then(|request| request.message) {
        Some(watch_request::Message::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("the first message of a stream must be a Hello")),
    }
}

type Held = (Option<Revision>, Option<Told>);

fn check(hello: Hello, identity: NodeIdentity, caller: &Caller) -> Result<(ConnectAsk, Held), Status> {
    if hello.node != identity.name.as_str() {
        let message = format!(
            "the Hello is of node {:?}, the certificate of node {}: an agent speaks for its own node only",
            short(&hello.node),
            identity.name
        );
        return Err(Status::permission_denied(message));
    }
    let facts = hello.facts.map(Facts::try_from).transpose().map_err(|error| error.inside("hello.facts"))?;
    let told = convert::told(&hello.digest, &hello.more_digest).map_err(|error| error.inside("hello"))?;
    // A dual-stack listener shows IPv4 clients as mapped addresses.
    let source = caller.address.ip().to_canonical();
    Ok((ConnectAsk { identity, source, own: caller.own, facts }, (hello.revision.map(Into::into), told)))
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
