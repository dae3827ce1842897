//! A real Kubernetes cluster as the tests see it: nodes in two subnets joined by this machine, which is the router.
//!
//! Owns the ways in: the API server by the cluster's own kubeconfig, the network namespaces of nodes, pods and router,
//! programs on the nodes. Must never change the cluster but by what a test or an operator does, and that is undone by the
//! same hand. The cluster itself is `./dev cluster up`'s.

mod absent;
pub mod description;
pub mod dns;
pub mod harness;
pub mod helm;
pub mod http;
mod manifest;
mod netns;
pub mod node;
mod pod;
mod programs;
pub mod scene;
pub mod shell;
pub mod udp;
pub mod wait;
pub mod weft;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use weft_core::types::Family;

pub use absent::Absent;
pub use description::{Description, SubnetDescription};
pub use node::Node;
pub use pod::Pod;
pub use scene::{Scene, Service, ServicePort};

use crate::lab::{Capture, Namespace};

/// A running cluster, and this test's connections to it.
pub struct Kind {
    description: Description,
    client: Client,
    router: Arc<Namespace>,
    nodes: BTreeMap<String, Arc<Node>>,
}

impl Kind {
    /// Opens what `./dev cluster up` has left running.
    ///
    /// # Errors
    /// Where it is not up, or this user may not enter it.
    pub async fn open(description: Description) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "entering the namespaces of nodes and pods needs root: use sudo");
        // Both of rustls's own providers may be linked in; ours is the one that everything else here uses.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = Kubeconfig::read_from(&description.kubeconfig)
            .with_context(|| format!("cannot read {}", description.kubeconfig.display()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let router = Arc::new(Namespace::adopt("router", "/proc/self/ns/net".as_ref())?);
        let mut nodes = BTreeMap::new();
        for node in &description.nodes {
            nodes.insert(node.name.clone(), Arc::new(Node::open(node.clone())?));
        }
        Ok(Self { client: Client::try_from(config)?, description, router, nodes })
    }

    /// What the cluster is made of.
    pub const fn description(&self) -> &Description {
        &self.description
    }

    /// A client with an administrator's rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// This machine: the router between the subnets.
    pub const fn router(&self) -> &Arc<Namespace> {
        &self.router
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// A node by name.
    ///
    /// # Panics
    /// Where there is none of that name.
    pub fn node(&self, name: &str) -> &Arc<Node> {
        self.nodes.get(name).unwrap_or_else(|| panic!("the cluster has no node {name}"))
    }

    /// The workers of a subnet, by name.
    pub fn workers(&self, subnet: &str) -> Vec<&Arc<Node>> {
        self.nodes().filter(|node| !node.is_control_plane() && node.subnet() == subnet).collect()
    }

    /// A worker in subnet `a` and one in subnet `b`: what crosses the router.
    ///
    /// # Panics
    /// Where the cluster has no such workers.
    pub fn across(&self) -> [&Arc<Node>; 2] {
        ["a", "b"].map(|subnet| {
            *self.workers(subnet).first().unwrap_or_else(|| panic!("the cluster has no worker in subnet {subnet}"))
        })
    }

    /// Two nodes of one subnet.
    ///
    /// # Panics
    /// Where no subnet has two.
    pub fn neighbours(&self) -> [&Arc<Node>; 2] {
        match self.workers("b")[..] {
            [one, other, ..] => [one, other],
            _ => panic!("subnet b has no two workers"),
        }
    }

    /// The families that pods and services have, the main one first.
    pub fn families(&self) -> Vec<Family> {
        match self.description.ip_family.as_str() {
            "dual" => vec![Family::V4, Family::V6],
            "dual-ipv6" => vec![Family::V6, Family::V4],
            _ => vec![Family::V4],
        }
    }

    /// The router's own address in a subnet: for pods an address outside of the cluster.
    ///
    /// # Errors
    /// Where the subnet has no network of that family.
    pub fn router_address(&self, subnet: &str, family: Family) -> Result<IpAddr> {
        let subnet = self.description.subnet(subnet)?;
        let mut networks = subnet.cidrs.iter().filter_map(|cidr| cidr.parse::<IpNetwork>().ok());
        let network = networks.find(|network| Family::of(network.ip()) == family);
        let network = network.with_context(|| format!("subnet {} has no {family} network", subnet.name))?;
        network.iter().nth(1).with_context(|| format!("{network} has no room for a router"))
    }

    /// Captures what the router passes on in a subnet.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn capture_at_router(&self, subnet: &str) -> Result<Capture> {
        Capture::start(&self.router, &self.description.subnet(subnet)?.bridge)
    }
}
