//! Health and Prometheus metrics over HTTP, on loopback unless told otherwise.
//!
//! Owns the names of the metrics. Must never be a way to change anything.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::{net::TcpListener, sync::watch};
use tracing::{info, warn};
use weft_core::types::{PodCidr, UnixMs};

use crate::{
    controller::{ConnectionStatus, Deadlines},
    engine::{Dropped, Handle, Status},
    pods::PodStore,
    probe::Findings,
};

/// Between two attempts to bind.
const AGAIN: Duration = Duration::from_secs(5);

/// What is shown.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The engine.
    pub engine: Handle,
    /// How the node stands.
    pub status: watch::Receiver<Status>,
    /// How the connection stands.
    pub connection: watch::Receiver<ConnectionStatus>,
    /// The moments of the node's certificate.
    pub deadlines: watch::Receiver<Option<Deadlines>>,
    /// What probes found.
    pub findings: Findings,
    /// The addresses of pods.
    pub pods: PodStore,
}

/// Serves until the task is dropped; `trouble` says why it cannot.
pub async fn serve(address: SocketAddr, sources: Sources, trouble: watch::Sender<Vec<String>>) -> anyhow::Result<()> {
    let listener = bound(address, &trouble).await;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(sources));
    axum::serve(listener, router).await.context("metrics stopped")
}

/// Waits until the address can be bound: whoever has it may go, and neither pods nor this node's readiness depend on it.
async fn bound(address: SocketAddr, trouble: &watch::Sender<Vec<String>>) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                if !trouble.send_replace(Vec::new()).is_empty() {
                    info!(%address, "metrics are served now");
                }
                return listener;
            }
            Err(error) => {
                let text = format!(
                    "metrics address {address} cannot be bound ({error}): no metrics are served until it is free; choose another --metrics-listen or `off`"
                );
                if trouble.borrow().is_empty() {
                    warn!("{text}");
                }
                trouble.send_replace(vec![text]);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn readyz(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    let status = sources.status.borrow();
    match &status.problem {
        _ if status.ready => (StatusCode::OK, "ready\n".to_owned()),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}: {}\n", problem.reason, problem.message)),
    }
}

async fn metrics(State(sources): State<Arc<Sources>>) -> impl IntoResponse {
    let dropped = sources.engine.dropped().await.unwrap_or_default();
    let mut text = String::new();
    match encode(&mut text, &registry(&sources, dropped)) {
        Ok(()) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The registry is made anew for each scrape: all figures have an owner elsewhere.
fn registry(sources: &Sources, dropped: Dropped) -> Registry {
    let mut registry = Registry::with_prefix("weft_agent");
    let mut gauge = |name: &str, help: &str, value: i64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let total = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let status = sources.status.borrow().clone();
    let (answering, lost) = sources.findings.with(|table| (table.answering(), table.lost_peers().count()));
    gauge(
        "ready",
        "1 where the kernel was read back to hold what this node needs itself, so that pods can come",
        status.ready.into(),
    );
    gauge("controller_connected", "1 while a controller answers", sources.connection.borrow().connected.into());
    if let Some(deadlines) = *sources.deadlines.borrow() {
        let seconds = |moment: SystemTime| UnixMs::from(moment).seconds();
        gauge("certificate_end_seconds", "When this node's certificate ends, Unix time", seconds(deadlines.end));
        gauge("certificate_lost_seconds", "Until when it is renewed, Unix time", seconds(deadlines.lost));
    }
    gauge("members", "Members of the cluster, this node included", count(status.members));
    gauge("kernel_objects", "Kernel objects held", count(status.objects));
    gauge("repaired_objects", "Objects put back since the start", total(status.repairs));
    gauge("pods", "Pods attached", count(status.pods));
    gauge("peers_answering", "Peers that answered their last probe", count(answering));
    gauge("peers_lost", "Peers and families whose probes are lost", count(lost));
    gauge(
        "dropped_tunnel_packets_from_pods",
        "Tunnel packets dropped because a pod sent them",
        total(dropped.tunnel_from_pods),
    );
    gauge(
        "dropped_tunnel_packets_from_strangers",
        "Tunnel packets dropped because no member has their source",
        total(dropped.tunnel_from_strangers),
    );
    gauge(
        "dropped_forged_tunnel_packets",
        "Tunnel packets dropped because they do not come from pods of the member that sent them",
        total(dropped.tunnel_forged),
    );
    gauge(
        "dropped_forged_packets_from_pods",
        "Packets dropped because a pod sent them under an address that is not its own",
        total(dropped.forged_by_pods),
    );
    gauge(
        "dropped_packets_to_gateway",
        "Packets dropped because a pod sent them to its gateway's own address",
        total(dropped.pods_to_gateway),
    );
    let applied = status.applied.unwrap_or_default();
    gauge("applied_epoch", "Epoch of the revision held", total(applied.epoch));
    gauge("applied_sequence", "Sequence of the revision held", total(applied.sequence));
    addresses(&mut registry, &sources.pods.usage(&status.pod_cidrs));
    registry
}

/// How full the node's pod CIDRs are, for an alert before the last address is gone.
fn addresses(registry: &mut Registry, usage: &[(PodCidr, u128, u128)]) {
    let (held, usable) = (ByFamily::default(), ByFamily::default());
    for (cidr, of_pods, most) in usage {
        let family = [("family", cidr.family().to_string())];
        let number = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
        held.get_or_create(&family).set(number(*of_pods));
        usable.get_or_create(&family).set(number(*most));
    }
    registry.register("pod_addresses_held", "Addresses of the node's pod CIDR that pods hold", held);
    registry.register("pod_addresses_usable", "Addresses of the node's pod CIDR that pods can hold", usable);
}

type ByFamily = Family<[(&'static str, String); 1], Gauge>;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        pods::{MemoryDisk, PodStore},
        probe::{Prober, Targets},
    };

    /// Dashboards and alerts name these.
    #[test]
    fn no_metric_changes_its_name_or_kind() {
        let (_, targets) = watch::channel(Arc::new(Targets::default()));
        let now = SystemTime::now();
        let mut status = Status::default();
        status.pod_cidrs.v4 = "10.244.1.0/24".parse().ok();
        let sources = Sources {
            engine: Handle::new().0,
            status: watch::channel(status).1,
            connection: watch::channel(ConnectionStatus::default()).1,
            deadlines: watch::channel(Some(Deadlines { due: now, end: now, lost: now })).1,
            findings: Prober::new(targets).1,
            pods: PodStore::open(MemoryDisk::default()).expect("an empty disk").store,
        };
        let mut text = String::new();
        encode(&mut text, &registry(&sources, Dropped::default())).expect("it can be written");
        let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE weft_agent_")).collect();
        let gauges = [
            "ready",
            "controller_connected",
            "certificate_end_seconds",
            "certificate_lost_seconds",
            "members",
            "kernel_objects",
            "repaired_objects",
            "pods",
            "peers_answering",
            "peers_lost",
            "dropped_tunnel_packets_from_pods",
            "dropped_tunnel_packets_from_strangers",
            "dropped_forged_tunnel_packets",
            "dropped_forged_packets_from_pods",
            "dropped_packets_to_gateway",
            "applied_epoch",
            "applied_sequence",
            "pod_addresses_held",
            "pod_addresses_usable",
        ];
        assert_eq!(types, gauges.map(|name| format!("{name} gauge")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_is_taken_is_said_and_bound_once_it_is_free() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = other.local_addr().expect("it is bound");
        let (trouble, mut said) = watch::channel(Vec::new());
        let binding = tokio::spawn(async move { bound(address, &trouble).await });
        let text = said.wait_for(|said| !said.is_empty()).await.expect("it tries").join("");
        assert!(text.contains(&address.to_string()) && text.contains("--metrics-listen"), "{text}");
        drop(other);
        let listener = binding.await.expect("no panic");
        assert_eq!(listener.local_addr().expect("it is bound"), address);
        assert!(said.borrow().is_empty(), "the warning stays for ever");
    }
}
