//! The agent's configuration: flags over file over defaults, validated as a whole.
//!
//! Owns what may be said; [`check`] owns every check of a value an operator gives. Must never touch the kernel or the
//! network.

mod check;
mod file;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use weft_core::{
    masquerade::Unmasqueraded,
    types::{LinkName, NodeName},
};
use weft_program::log::Format;

use self::check::Problems;
use crate::{cni::install::Chained, controller::Credentials};

/// What an operator may say, by flag or in the file; flags win. All fields are optional here, so that both sources
/// can be merged before anything is checked.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// This node's name: a DNS-1123 subdomain.
    #[arg(long, env = "WEFT_NODE")]
    pub node: Option<String>,
    /// A controller's address as HOST:PORT; repeat it for several. With a ServiceAccount token the Service weft-controller
    /// of the environment, unless given.
    #[arg(long = "controller", env = "WEFT_CONTROLLER", value_delimiter = ',')]
    pub controllers: Vec<String>,
    /// File with further controllers, ADDRESS:PORT a line, read at each connect and tried after the others.
    #[arg(long)]
    pub controllers_file: Option<PathBuf>,
    /// Network outside the pools that this node's pods go to under their own addresses, such as 10.0.0.0/8, instead of
    /// those of the cluster; may repeat.
    #[arg(long = "non-masquerade-cidr", value_name = "CIDR")]
    pub non_masquerade_cidrs: Vec<String>,
    /// File with the join token; needed until the node has its certificate.
    #[arg(long)]
    pub token_file: Option<PathBuf>,
    /// On Kubernetes, instead of a join token: file with the pod's ServiceAccount token, read for each certificate anew.
    #[arg(long)]
    pub service_account_token_file: Option<PathBuf>,
    /// With it: PEM file with the authorities that may vouch for a controller, read at each connect.
    #[arg(long)]
    pub ca_file: Option<PathBuf>,
    /// An address by which the cluster knows this node; repeat it for several. The first that the node has names the
    /// underlay, and no others are announced.
    #[arg(long = "node-address", env = "WEFT_NODE_ADDRESS", value_delimiter = ',')]
    pub node_addresses: Vec<String>,
    /// Where sysctls can be written [default: /proc/sys]; in a container another mount of it.
    #[arg(long)]
    pub sysctl_dir: Option<PathBuf>,
    /// Where the agent keeps its identity, the last good membership and the pods' addresses [default: /var/lib/weft].
    #[arg(long)]
    pub state_dir: Option<PathBuf>,
    /// Unix socket of the local API [default: /run/weft/agent.sock].
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// Name of the VXLAN device [default: weft0].
    #[arg(long)]
    pub device: Option<String>,
    /// The underlay link; without it the route to the controller names it.
    #[arg(long)]
    pub interface: Option<String>,
    /// The largest packet in bytes that the network between the nodes carries, where that is less than the link's MTU.
    #[arg(long)]
    pub mtu: Option<String>,
    /// Where the container runtime looks for CNI plugins [default: /opt/cni/bin].
    #[arg(long)]
    pub cni_bin_dir: Option<PathBuf>,
    /// Where the container runtime looks for CNI network configurations [default: /etc/cni/net.d].
    #[arg(long)]
    pub cni_conf_dir: Option<PathBuf>,
    /// The weft-cni binary to install [default: beside this program].
    #[arg(long)]
    pub cni_binary: Option<PathBuf>,
    /// Plugin to run behind weft-cni, portmap or bandwidth; repeat it for both. One whose binary is not in the plugin
    /// directory is left out until it is.
    #[arg(long, value_delimiter = ',')]
    pub cni_chain: Vec<String>,
    /// Where the container runtime caches CNI results [default: /var/lib/cni/results].
    #[arg(long)]
    pub cni_results_dir: Option<PathBuf>,
    /// How many seconds a pod has to be gone before its addresses are freed without a DEL [default: 120].
    #[arg(long)]
    pub pod_grace: Option<u64>,
    /// Do not install the CNI plugin and its configuration.
    #[arg(long)]
    pub no_cni: bool,
    /// Where Prometheus metrics are served [default: 127.0.0.1:7889]; `off` serves none.
    #[arg(long)]
    pub metrics_listen: Option<String>,
    /// Form of the log; its flag is common to all commands and so not among these.
    #[arg(skip)]
    pub log_format: Option<Format>,
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
    /// The VXLAN device.
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

/// Where the CNI plugin goes.
#[derive(Debug, Clone)]
pub struct CniPaths {
    /// The runtime's plugin directory.
    pub bin_dir: PathBuf,
    /// The runtime's configuration directory.
    pub conf_dir: PathBuf,
    /// The binary to install.
    pub binary: PathBuf,
    /// The plugins to run behind ours, in this order.
    pub chain: Vec<Chained>,
}

/// All problems of a configuration at once.
#[derive(Debug)]
pub struct Invalid(Vec<String>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "the configuration has {} problem{plural}:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

impl std::error::Error for Invalid {}

impl Options {
    /// These options over those of `file`, checked; every problem of both is told.
    pub fn load(self, file: Option<&Path>) -> Result<Config, Invalid> {
        let mut problems = Problems::default();
        let file = file.map(|path| Self::read(path, &mut problems.0)).unwrap_or_default();
        self.over(file).validate(problems)
    }

    /// These options, and `file`'s where these are silent.
    fn over(self, file: Self) -> Self {
        let many = |own: Vec<String>, file: Vec<String>| if own.is_empty() { file } else { own };
        Self {
            node: self.node.or(file.node),
            controllers: many(self.controllers, file.controllers),
            controllers_file: self.controllers_file.or(file.controllers_file),
            non_masquerade_cidrs: many(self.non_masquerade_cidrs, file.non_masquerade_cidrs),
            token_file: self.token_file.or(file.token_file),
            service_account_token_file: self.service_account_token_file.or(file.service_account_token_file),
            ca_file: self.ca_file.or(file.ca_file),
            node_addresses: many(self.node_addresses, file.node_addresses),
            sysctl_dir: self.sysctl_dir.or(file.sysctl_dir),
            state_dir: self.state_dir.or(file.state_dir),
            socket: self.socket.or(file.socket),
            device: self.device.or(file.device),
            interface: self.interface.or(file.interface),
            mtu: self.mtu.or(file.mtu),
            cni_bin_dir: self.cni_bin_dir.or(file.cni_bin_dir),
            cni_conf_dir: self.cni_conf_dir.or(file.cni_conf_dir),
            cni_binary: self.cni_binary.or(file.cni_binary),
            cni_chain: many(self.cni_chain, file.cni_chain),
            cni_results_dir: self.cni_results_dir.or(file.cni_results_dir),
            pod_grace: self.pod_grace.or(file.pod_grace),
            no_cni: self.no_cni || file.no_cni,
            metrics_listen: self.metrics_listen.or(file.metrics_listen),
            log_format: self.log_format.or(file.log_format),
        }
    }
}

#[cfg(test)]
mod tests;
