//! A Weft cluster in a lab: the real controller, the real agents, pods attached by the real CNI plugin.
//!
//! Owns who runs where and the life of each program. Must never reach into a program: what it knows of the cluster it
//! asks of the `weft` command, as an operator would.

mod agent;
mod cni;
mod controller;
mod pod;
mod weft;
mod wires;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, ensure};

pub use agent::Agent;
pub use controller::{Controller, DEFAULT_CONTROLLER};
pub use pod::Pod;
pub use weft::{AgentStatus, FamilyPath, Peer, Weft};
pub use wires::{Asked, Forwarded, Path, Wires};

use crate::lab::{Build, Lab, LabSpec, wait};

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    lab: Lab,
    controller: Controller,
    agents: Mutex<BTreeMap<String, Arc<Agent>>>,
}

impl Cluster {
    /// A lab with a running controller and no node.
    ///
    /// # Errors
    /// Where the lab cannot be built or the controller does not come up.
    pub async fn empty(spec: LabSpec) -> Result<Self> {
        Self::empty_of(spec, Build::Present).await
    }

    /// The same with a build of the controller.
    ///
    /// # Errors
    /// As [`Self::empty`], and where there is no such build.
    pub async fn empty_of(spec: LabSpec, build: Build) -> Result<Self> {
        let lab = Lab::start(spec).await?;
        let controller = Controller::install(&lab, build).await?;
        controller.start().await?;
        Ok(Self { lab, controller, agents: Mutex::default() })
    }

    /// A lab in which every host is a node, and every node sees every other ready.
    ///
    /// # Errors
    /// As [`Self::empty`], and where a node does not get ready.
    pub async fn start(spec: LabSpec) -> Result<Self> {
        let cluster = Self::empty(spec).await?;
        for node in cluster.lab.node_names() {
            cluster.join(&node).await?;
        }
        cluster.ready().await?;
        Ok(cluster)
    }

    /// The network below.
    pub const fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The controller.
    pub const fn controller(&self) -> &Controller {
        &self.controller
    }

    /// The agent of a node.
    ///
    /// # Panics
    /// Where that node never joined.
    pub fn agent(&self, node: &str) -> Arc<Agent> {
        let agents = self.agents.lock().expect("nobody panics while holding it");
        Arc::clone(agents.get(node).unwrap_or_else(|| panic!("{node} never joined")))
    }

    /// The agents of all nodes, by name.
    pub fn agents(&self) -> Vec<Arc<Agent>> {
        self.agents.lock().expect("nobody panics while holding it").values().cloned().collect()
    }

    /// Makes a host a node: a token, then an agent. Does not wait for it.
    ///
    /// # Errors
    /// Where the controller gives no token or the agent cannot be started.
    pub async fn join(&self, node: &str) -> Result<Arc<Agent>> {
        self.join_of(node, Build::Present).await
    }

    /// The same with a build of the agent.
    ///
    /// # Errors
    /// As [`Self::join`], and where there is no such build.
    pub async fn join_of(&self, node: &str, build: Build) -> Result<Arc<Agent>> {
        let agent = self.install(node).await?;
        agent.set_build(build);
        self.begin(node, agent).await
    }

    /// The same with more flags of the agent.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub async fn join_with(&self, node: &str, options: &[&str]) -> Result<Arc<Agent>> {
        let agent = self.install(node).await?;
        agent.set_options(options);
        self.begin(node, agent).await
    }

    async fn install(&self, node: &str) -> Result<Agent> {
        let token = self.controller.token(node).await?;
        Agent::install(self.lab.host(node), self.controller.address(), &token)
    }

    async fn begin(&self, node: &str, agent: Agent) -> Result<Arc<Agent>> {
        let agent = Arc::new(agent);
        agent.start().await?;
        self.agents.lock().expect("nobody panics while holding it").insert(node.to_owned(), Arc::clone(&agent));
        Ok(agent)
    }

    /// Ends a membership as an operator does, after its agent was stopped.
    ///
    /// # Errors
    /// Where the controller refuses.
    pub async fn delete(&self, node: &str) -> Result<()> {
        let agent = self.agents.lock().expect("nobody panics while holding it").remove(node);
        agent.with_context(|| format!("{node} never joined"))?.stop().await?;
        self.controller.weft().run(&["node", "delete", node]).await?;
        Ok(())
    }

    /// Power off and on: the kernel's state and every process of the node are gone, its disk is not. The agent is not
    /// started again, and pods are to be attached anew.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn reboot(&self, node: &str) -> Result<()> {
        self.agent(node).kill().await?;
        self.lab.host(node).reboot().await
    }

    /// Attaches a pod as a container runtime does.
    ///
    /// # Errors
    /// Where the plugin fails.
    pub async fn pod(&self, node: &str, name: &str) -> Result<Pod> {
        Pod::attach(&self.agent(node), name).await
    }

    /// Waits until every running agent sees every member ready.
    ///
    /// # Errors
    /// When it takes too long, with what is missing.
    pub async fn ready(&self) -> Result<()> {
        let agents = self.agents();
        for agent in &agents {
            let what = format!("{} to see {} nodes ready", agent.host().name(), agents.len());
            wait::until(&what, wait::PATIENCE, async || self.sees_all(agent, agents.len()).await).await?;
        }
        Ok(())
    }

    /// Waits until every agent is connected to the controller.
    ///
    /// # Errors
    /// When it takes too long, with what the agent says about it.
    pub async fn connected(&self) -> Result<()> {
        for agent in self.agents() {
            let what = format!("{} to be connected to the controller", agent.host().name());
            wait::until(&what, wait::PATIENCE, async || {
                agent.alive().await?;
                let status = agent.weft().status().await?;
                ensure!(status.controller_connected, "{}", status.controller_message);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn sees_all(&self, agent: &Agent, count: usize) -> Result<()> {
        agent.alive().await?;
        let status = agent.weft().status().await?;
        ensure!(status.ready, "not ready: {} {}", status.reason, status.message);
        let peers = agent.weft().peers().await?;
        ensure!(peers.len() == count, "{} of {count} members known", peers.len());
        for peer in peers {
            ensure!(peer.is_ready(), "{} is {}: {} {}", peer.node, peer.state, peer.reason, peer.message);
        }
        Ok(())
    }
}
