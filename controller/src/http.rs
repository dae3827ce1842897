//! HTTP for probes and Prometheus.
//!
//! Owns /healthz (the process runs), /readyz (it is of use) and /metrics. Listens on loopback unless told otherwise,
//! since it asks nobody who they are. Must never show anything about single nodes.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What probes are told when they ask: as what the controller is ready, or why it is not.
pub(crate) type Readiness = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

#[derive(Clone)]
struct Context {
    readiness: Readiness,
    metrics: Arc<Metrics>,
}

/// Serves until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(Context { readiness, metrics });
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn ready(State(context): State<Context>) -> (StatusCode, String) {
    match (context.readiness)() {
        Ok(what) => (StatusCode::OK, format!("{what}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn metrics_text(State(context): State<Context>) -> impl IntoResponse {
    match context.metrics.render() {
        Ok(text) => {
            (StatusCode::OK, [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], format!("{error}\n")),
    }
}
