//! Configuration.
//!
//! Owns its meaning: options come from flags and from a YAML file with the same names, flags win, and the whole is
//! checked at once so that every problem is told in one go. Must never be read after the start.

mod agent_nodes;
mod check;
mod kubernetes;
mod options;
mod size;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnetwork::IpNetwork;
use weft_core::{alloc::PoolRule, settings::Settings};
use weft_program::log::Format;

pub(crate) use agent_nodes::AgentNodes;
pub use kubernetes::{Kubernetes, LeaseTimes, NodeCidrs};
pub use options::Options;
pub(crate) use size::duration;

/// Where the durable state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// In a redb file.
    Redb(PathBuf),
    /// In the objects of a Kubernetes API server.
    Kubernetes(Box<Kubernetes>),
}

/// A configuration that holds together.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where `ca.crt` and `ca.key` are; empty in Kubernetes, where a Secret has them.
    pub data_dir: PathBuf,
    /// Where the durable state is.
    pub store: StoreLocation,
    /// The gRPC server's address; port 0 for any free one.
    pub listen: SocketAddr,
    /// The address of health and metrics; port 0 for any free one.
    pub http_listen: SocketAddr,
    /// Names and addresses in the server's certificate, beside `weft-controller`.
    pub server_names: Vec<String>,
    /// Where pod CIDRs come from, and for which nodes.
    pub pools: Vec<PoolRule>,
    /// What all nodes share.
    pub settings: Settings,
    /// Settings are announced even where some agents are too old for them.
    pub force_settings: bool,
    /// The largest packet in bytes that the network between the nodes carries, where the operator said so.
    pub mtu: Option<u32>,
    /// Where a node's underlay address may lie although its agent does not connect from there; none: beside addresses of other
    /// nodes whose agents do.
    pub underlay_networks: Vec<IpNetwork>,
    /// How long node certificates are good for.
    pub certificate_lifetime: Duration,
    /// How long after its end a node's certificate is still renewed; zero: not at all, as on Kubernetes.
    pub renewal_grace: Duration,
    /// An agent that has not acknowledged for this long is disconnected.
    pub acknowledge_timeout: Duration,
    /// How long after a start pod CIDRs of departed nodes stay in quarantine at least.
    pub reconnect_grace: Duration,
    /// Changes within this time are announced together.
    pub coalesce_window: Duration,
    /// Time for one TLS handshake.
    pub handshake_timeout: Duration,
    /// The form of the log.
    pub log_format: Format,
}
