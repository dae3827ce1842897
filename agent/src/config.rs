//! The agent's configuration: its options, validated as a whole.
//!
//! Owns what may be said; [`check`] owns every check of a value an operator gives. Must never touch the kernel or the
//! network.

mod check;
mod cni;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use weft_core::{
    masquerade::Unmasqueraded,
    types::{LinkName, NodeName},
};
use weft_program::log::Format;

pub use self::cni::{Chained, CniPaths};
use crate::controller::Credentials;

/// What an operator may say, all as texts: nothing is checked before it is known what wins.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// This node's name: a DNS-1123 subdomain
    #[arg(long, env = "WEFT_NODE")]
    pub node: Option<String>,
    /// A controller's address as HOST:PORT, tried in turn; may repeat. With a ServiceAccount token the Service weft-controller of
    /// the environment, unless given
    #[arg(long = "controller", value_name = "HOST:PORT", env = "WEFT_CONTROLLER", value_delimiter = ',')]
    pub controllers: Vec<String>,
    /// File with further controllers, ADDRESS:PORT a line, read at each connect and tried after the others; which of them worked
    /// is kept in the state directory
    #[arg(long, value_name = "FILE")]
    pub controllers_file: Option<PathBuf>,
    /// File with the join token; needed until the node has its certificate
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Kubernetes, instead of a join token: file with the pod's ServiceAccount token, read for each certificate anew
    #[arg(long, value_name = "FILE")]
    pub service_account_token_file: Option<PathBuf>,
    /// With it: PEM file with the authorities that may vouch for a controller, read at each connect
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The underlay link [default: by the route to the controller, then the one in use while it is there]
    #[arg(long, value_name = "LINK")]
    pub interface: Option<String>,
    /// An address by which the cluster knows this node; may repeat. The first that the node has names the underlay, and no others
    /// are announced
    #[arg(long = "node-address", value_name = "ADDRESS", env = "WEFT_NODE_ADDRESS", value_delimiter = ',')]
    pub node_addresses: Vec<String>,
    /// The largest packet in bytes that the network between the nodes carries, if that is less than the link's MTU; the smallest
    /// of link, node and cluster counts [default: the link's MTU]
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<String>,
    /// Network outside the pools that this node's pods go to under their own addresses, such as 10.0.0.0/8, instead of those of
    /// the cluster; may repeat [default: the cluster's]
    #[arg(id = "nonMasqueradeCIDRs", long = "non-masquerade-cidr", value_name = "CIDR")]
    pub non_masquerade_cidrs: Vec<String>,
    /// Name of the VXLAN device [default: weft0]
    #[arg(long, value_name = "LINK")]
    pub device: Option<String>,
    /// Where sysctls can be written; in a container another mount of it [default: /proc/sys]
    #[arg(long, value_name = "DIR")]
    pub sysctl_dir: Option<PathBuf>,
    /// Where the agent keeps its identity, the last good membership and the pods' addresses [default: /var/lib/weft]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Unix socket of the local API [default: /run/weft/agent.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Where the container runtime looks for CNI plugins [default: /opt/cni/bin]
    #[arg(long, value_name = "DIR")]
    pub cni_bin_dir: Option<PathBuf>,
    /// Where the container runtime looks for CNI network configurations [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// The weft-cni binary to install [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub cni_binary: Option<PathBuf>,
    /// Plugin to run behind weft-cni, portmap or bandwidth; may repeat. One whose binary is not in the plugin directory is left out
    /// until it is
    #[arg(long, value_name = "PLUGIN", value_delimiter = ',')]
    pub cni_chain: Vec<String>,
    /// Where the container runtime caches CNI results [default: /var/lib/cni/results]
    #[arg(long, value_name = "DIR")]
    pub cni_results_dir: Option<PathBuf>,
    /// Do not install the CNI plugin and its configuration [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub no_cni: Option<String>,
    /// How many seconds a pod has to be gone before its addresses are freed without a DEL [default: 120]
    #[arg(long, value_name = "SECONDS")]
    pub pod_grace: Option<String>,
    /// Where Prometheus metrics are served; `off` serves none [default: 127.0.0.1:7889]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<String>,
    /// Form of the log on standard error: text or json [default: text]
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<String>,
}

/// The agent's configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// Controllers as HOST:PORT, tried in turn.
    pub controllers: Vec<String>,
    /// File with further ones.
    pub controllers_file: Option<PathBuf>,
    /// What the node joins with.
    pub credentials: Credentials,
    /// The addresses by which the cluster knows this node; none where nobody told.
    pub node_addresses: Vec<IpAddr>,
    /// Where sysctls can be written.
    pub sysctl_dir: PathBuf,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// The local API's socket.
    pub socket: PathBuf,
    /// The tunnel device.
    pub device: LinkName,
    /// The underlay link, where named.
    pub interface: Option<LinkName>,
    /// The largest packet in bytes that the network between the nodes carries, where the operator said so.
    pub mtu: Option<u32>,
    /// Where this node's pods go under their own addresses, where the operator said so here; else the cluster decides.
    pub unmasqueraded: Option<Unmasqueraded>,
    /// Where the runtime caches CNI results.
    pub cni_results_dir: PathBuf,
    /// How long a pod has to be gone before its addresses are freed without a DEL.
    pub pod_grace: Duration,
    /// The CNI installation, unless switched off.
    pub cni: Option<CniPaths>,
    /// Where metrics are served.
    pub metrics_listen: Option<SocketAddr>,
    /// Form of the log.
    pub log_format: Format,
}

#[cfg(test)]
mod tests;
