//! Prometheus metrics.
//!
//! Owns names and labels. Labels are words of ours, never names of nodes: their number must not grow with the cluster.

use std::{
    fmt,
    sync::atomic::{AtomicI64, AtomicU64},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use weft_core::{alloc::Usage, standing::State, types::Revision};

/// The cluster in figures.
pub(crate) struct Figures<'a> {
    pub(crate) members: usize,
    pub(crate) connected: usize,
    pub(crate) revision: Revision,
    pub(crate) pools: &'a [Usage],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: String,
    state: &'static str,
}

/// All metrics of the controller.
#[derive(Default)]
pub(crate) struct Metrics {
    leader: Gauge,
    members: Gauge,
    connected: Gauge,
    epoch: Gauge<u64, AtomicU64>,
    sequence: Gauge<u64, AtomicU64>,
    peers: Family<StateLabel, Gauge>,
    pool_cidrs: Family<PoolLabel, Gauge<u64, AtomicU64>>,
    joins: Family<ResultLabel, Counter>,
    admissions: Family<ResultLabel, Counter>,
    node_writes: Family<ResultLabel, Counter>,
    renewals: Family<ResultLabel, Counter>,
    handshakes: Family<ResultLabel, Counter>,
    connections_ended: Family<ResultLabel, Counter>,
    streams_ended: Family<ResultLabel, Counter>,
    store_failures: Counter,
    unreadable: Gauge,
    memory: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub(crate) fn join(&self, result: &'static str) {
        self.joins.get_or_create(&ResultLabel { result }).inc();
    }

    /// A Node of Kubernetes was taken in, or could not be as it is.
    pub(crate) fn admission(&self, result: &'static str) {
        self.admissions.get_or_create(&ResultLabel { result }).inc();
    }

    /// Pod CIDRs were written into a Node, or could not be.
    pub(crate) fn node_written(&self, is_written: bool) {
        self.node_writes.get_or_create(&ResultLabel { result: if is_written { "ok" } else { "failed" } }).inc();
    }

    pub(crate) fn renewal(&self, result: &'static str) {
        self.renewals.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn handshake(&self, result: &'static str) {
        self.handshakes.get_or_create(&ResultLabel { result }).inc();
    }

    /// The controller ended a connection.
    pub(crate) fn connection_ended(&self, result: &'static str) {
        self.connections_ended.get_or_create(&ResultLabel { result }).inc();
    }

    pub(crate) fn stream_ended(&self, result: &'static str) {
        self.streams_ended.get_or_create(&ResultLabel { result }).inc();
    }

    /// Members whose record could not be read when the store was last read.
    pub(crate) fn set_unreadable(&self, count: usize) {
        self.unreadable.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn store_failed(&self) {
        self.store_failures.inc();
    }

    /// Whether this controller leads. One that does not knows nothing of the cluster.
    pub(crate) fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
        if !leads {
            for gauge in [&self.members, &self.connected] {
                gauge.set(0);
            }
            for gauge in [&self.epoch, &self.sequence] {
                gauge.set(0);
            }
            self.pool_cidrs.clear();
            self.peers.clear();
        }
    }

    /// How the cluster stands, with the state of every node.
    pub(crate) fn set_cluster(&self, figures: &Figures<'_>, states: impl Iterator<Item = State>) {
        self.members.set(i64::try_from(figures.members).unwrap_or(i64::MAX));
        self.connected.set(i64::try_from(figures.connected).unwrap_or(i64::MAX));
        self.epoch.set(figures.revision.epoch);
        self.sequence.set(figures.revision.sequence);
        for usage in figures.pools {
            let free = usage.total.saturating_sub(usage.used).saturating_sub(usage.quarantined);
            for (state, count) in [("used", usage.used), ("quarantined", usage.quarantined), ("free", free)] {
                self.pool_cidrs.get_or_create(&PoolLabel { pool: usage.pool.cidr().to_string(), state }).set(count);
            }
        }
        let mut counts = PEER_STATES.map(|(state, label)| (state, label, 0));
        for state in states {
            counts.iter_mut().filter(|(known, ..)| *known == state).for_each(|(.., count)| *count += 1);
        }
        for (_, state, count) in counts {
            self.peers.get_or_create(&StateLabel { state }).set(count);
        }
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("weft_controller");
        registry.register("leader", "1 where this controller leads, or needs no leader", self.leader.clone());
        registry.register("members", "Nodes that joined and were not deleted", self.members.clone());
        registry.register("connected_agents", "Agents with an open stream", self.connected.clone());
        registry.register("revision_epoch", "The term of the membership", self.epoch.clone());
        registry.register("revision_sequence", "Changes of the membership in this term", self.sequence.clone());
        registry.register("peers", "Nodes by state", self.peers.clone());
        registry.register("pool_cidrs", "Pod CIDRs of a pool by state", self.pool_cidrs.clone());
        registry.register("joins", "Join requests", self.joins.clone());
        registry.register("node_writes", "Pod CIDRs written into Nodes", self.node_writes.clone());
        registry.register(
            "node_admissions",
            "Looks at Nodes that changed a member or were refused",
            self.admissions.clone(),
        );
        registry.register("certificate_renewals", "Renewals of node certificates", self.renewals.clone());
        registry.register("tls_handshakes", "TLS handshakes", self.handshakes.clone());
        registry.register("connections_ended", "Connections that were ended here", self.connections_ended.clone());
        registry.register("streams_ended", "Streams of agents that ended or were refused", self.streams_ended.clone());
        registry.register("unreadable_records", "Members whose record was not as written", self.unreadable.clone());
        registry.register("store_failures", "Batches that the store did not confirm", self.store_failures.clone());
        registry.register_with_unit("resident_memory", "Memory of the process", Unit::Bytes, self.memory.clone());
        registry
    }

    /// All of them in the OpenMetrics text format.
    pub(crate) fn render(&self) -> Result<String, fmt::Error> {
        self.memory.set(resident_bytes().unwrap_or(0));
        let mut text = String::new();
        encode(&mut text, &self.registry())?;
        Ok(text)
    }
}

const PEER_STATES: [(State, &str); 5] = [
    (State::Ready, "ready"),
    (State::Pending, "pending"),
    (State::Disconnected, "disconnected"),
    (State::Degraded, "degraded"),
    (State::Unreachable, "unreachable"),
];

/// Resident memory, from proc(5).
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts name these.
    #[test]
    fn no_metric_changes_its_name_or_kind() {
        let metrics = Metrics::default();
        // A family is told of once it has a member.
        drop(metrics.peers.get_or_create(&StateLabel { state: "ready" }));
        drop(metrics.pool_cidrs.get_or_create(&PoolLabel { pool: "10.244.0.0/16".to_owned(), state: "free" }));
        let counted = [&metrics.joins, &metrics.admissions, &metrics.node_writes, &metrics.renewals];
        let ended = [&metrics.handshakes, &metrics.connections_ended, &metrics.streams_ended];
        for family in counted.into_iter().chain(ended) {
            drop(family.get_or_create(&ResultLabel { result: "ok" }));
        }
        let text = metrics.render().expect("it can be written");
        let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE weft_controller_")).collect();
        assert_eq!(
            types,
            [
                "leader gauge",
                "members gauge",
                "connected_agents gauge",
                "revision_epoch gauge",
                "revision_sequence gauge",
                "peers gauge",
                "pool_cidrs gauge",
                "joins counter",
                "node_writes counter",
                "node_admissions counter",
                "certificate_renewals counter",
                "tls_handshakes counter",
                "connections_ended counter",
                "streams_ended counter",
                "unreadable_records gauge",
                "store_failures counter",
                "resident_memory_bytes gauge",
            ]
        );
    }
}
