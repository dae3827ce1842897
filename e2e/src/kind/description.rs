//! What the cluster says of itself: `target/kind/NAME.json`, written by `./dev cluster up`.
//!
//! Owns the reading; whatever is not read here may change.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Names the cluster to test.
pub const NAME: &str = "WEFT_KIND";
/// Its name where nobody gives one.
pub const DEFAULT: &str = "weft";

/// A cluster.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// Its name.
    pub name: String,
    /// How an administrator reaches the API server.
    pub kubeconfig: PathBuf,
    /// Directory with kubectl and helm.
    pub bin: PathBuf,
    /// `ipv4`, `dual`, or `dual-ipv6` where IPv6 is the main one of both.
    pub ip_family: String,
    /// How kube-proxy works: `iptables` or `nftables`.
    pub proxy_mode: String,
    /// Whether kube-controller-manager gives the nodes their pod CIDRs.
    pub allocate_node_cidrs: bool,
    /// Its nodes.
    pub nodes: Vec<NodeDescription>,
    /// Its subnets.
    pub subnets: Vec<SubnetDescription>,
    /// Images that every node has.
    pub images: Images,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeDescription {
    /// Its name in Kubernetes.
    pub name: String,
    /// Its container.
    pub container: String,
    /// The container's first process, as this machine sees it.
    pub pid: u32,
    /// `control-plane` or `worker`.
    pub role: String,
    /// The subnet it is in.
    pub subnet: String,
}

/// A subnet.
#[derive(Debug, Clone, Deserialize)]
pub struct SubnetDescription {
    /// `a` or `b`.
    pub name: String,
    /// Docker's name of it.
    pub network: String,
    /// The link of this machine that leads into it.
    pub bridge: String,
    /// Its networks, at most one a family.
    pub cidrs: Vec<String>,
}

/// Images.
#[derive(Debug, Clone, Deserialize)]
pub struct Images {
    /// Kubernetes' own test server.
    pub agnhost: String,
}

impl Description {
    /// Reads the description of the cluster that the environment names.
    ///
    /// # Errors
    /// Where it is not up; the text says how it comes up.
    pub fn read() -> Result<Self> {
        let name = env::var(NAME).unwrap_or_else(|_| DEFAULT.to_owned());
        let path = directory().join(format!("{name}.json"));
        let remedy = || format!("no cluster {name} ({}): ./dev e2e brings it up, or ./dev cluster up", path.display());
        let text = fs::read_to_string(&path).with_context(remedy)?;
        serde_json::from_str(&text).with_context(|| format!("{} is not what ./dev cluster writes", path.display()))
    }

    /// A subnet by name.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn subnet(&self, name: &str) -> Result<&SubnetDescription> {
        self.subnets.iter().find(|subnet| subnet.name == name).with_context(|| format!("there is no subnet {name}"))
    }
}

/// Where `./dev cluster` keeps descriptions.
pub fn directory() -> PathBuf {
    root().join("target/kind")
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository").to_owned()
}
