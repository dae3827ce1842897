//! How Weft stands in the cluster, as an operator looks at it.
//!
//! Owns the looking: resources, peer list, the Lease, how far programs are rolled out. Must never judge by anything that an operator
//! could not see.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment},
    coordination::v1::Lease,
    core::v1,
};
use kube::{Api, ResourceExt};
use weft_api::{Vtep, VtepState, VtepStatus, names};

use super::{Kind, Node, helm::NAMESPACE, wait};
use crate::{cluster::Peer, lab};

impl Kind {
    /// The resources of all nodes.
    pub fn vteps(&self) -> Api<Vtep> {
        Api::all(self.client())
    }

    /// Objects in Weft's own namespace.
    pub fn own<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), NAMESPACE)
    }

    /// Waits until Weft runs everywhere as it is declared, and every node is well, to Kubernetes and to Weft.
    ///
    /// # Errors
    /// When it takes too long, with what is missing.
    pub async fn settled(&self) -> Result<()> {
        self.rolled_out().await?;
        try_join_all(self.nodes().map(|node| self.well(node))).await?;
        Ok(())
    }

    /// Waits until a node is well, to Kubernetes and to Weft.
    ///
    /// # Errors
    /// When it takes too long, with what is missing.
    pub async fn well(&self, node: &Node) -> Result<()> {
        let name = node.name();
        self.told(name, &[VtepState::Ready]).await?;
        self.current(name).await?;
        let nodes: Api<v1::Node> = Api::all(self.client());
        wait::object(&nodes, name, &format!("node {name} to be ready"), wait::PATIENCE, |node| {
            let node = node.context("there is no such node")?;
            ensure!(condition(node, "Ready")? == "True", "it is not ready");
            ensure!(condition(node, "NetworkUnavailable")? == "False", "its network is said to be unavailable");
            Ok(())
        })
        .await
    }

    /// Waits until what is shown of a node is what the present leader heard of it.
    async fn current(&self, node: &str) -> Result<()> {
        lab::wait::until(&format!("the present leader to hear of {node}"), wait::PATIENCE, async || {
            let map = self.own::<v1::ConfigMap>().get(names::CLUSTER).await?;
            let epoch = map.data.and_then(|data| data.get(names::EPOCH).cloned()).context("nobody ever led")?;
            let applied = self.vteps().get(node).await?.status.and_then(|status| status.applied);
            let applied = applied.context("its kernel holds nothing yet")?.epoch.to_string();
            ensure!(applied == epoch, "the leader's term is {epoch}, and it was heard of in {applied}");
            Ok(())
        })
        .await
    }

    /// Waits until a node is shown in one of these states; whatever is not ready has a reason and a time.
    ///
    /// # Errors
    /// When it takes too long, with what is shown.
    pub async fn told(&self, node: &str, states: &[VtepState]) -> Result<VtepStatus> {
        let what = format!("{node} to be shown as {states:?}");
        wait::object(&self.vteps(), node, &what, wait::PATIENCE, |vtep| {
            let status = vtep.context("it is not shown")?.status.clone().context("it has no status yet")?;
            ensure!(states.contains(&status.state), "it is {:?}: {} {}", status.state, status.reason, status.message);
            ensure!(status.since.is_some(), "it is {:?} since never", status.state);
            if status.state != VtepState::Ready {
                let told = !status.reason.is_empty() && !status.message.is_empty();
                ensure!(told, "it is {:?} without a reason", status.state);
            }
            Ok(status)
        })
        .await
    }

    /// Waits until all pods of the controllers and agents are those that are declared, and ready.
    ///
    /// # Errors
    /// When it takes too long, with what is missing.
    pub async fn rolled_out(&self) -> Result<()> {
        wait::object(&self.own::<Deployment>(), names::CONTROLLER, "the controllers", wait::PATIENCE, |object| {
            let object = object.context("there is no Deployment")?;
            let (wanted, status) = (object.spec.as_ref(), object.status.as_ref().context("no status yet")?);
            let wanted = wanted.and_then(|spec| spec.replicas).unwrap_or(1);
            ensure!(status.observed_generation == object.metadata.generation, "the change was not seen yet");
            let counts =
                [status.replicas, status.updated_replicas, status.ready_replicas].map(Option::unwrap_or_default);
            ensure!(counts == [wanted; 3], "of {wanted} there are, are new, are ready: {counts:?}");
            Ok(())
        })
        .await?;
        wait::object(&self.own::<DaemonSet>(), names::AGENT, "the agents", wait::PATIENCE, |object| {
            let object = object.context("there is no DaemonSet")?;
            let status = object.status.as_ref().context("no status yet")?;
            ensure!(status.observed_generation == object.metadata.generation, "the change was not seen yet");
            let wanted = status.desired_number_scheduled;
            let counts = [status.updated_number_scheduled.unwrap_or_default(), status.number_ready];
            ensure!(counts == [wanted; 2], "of {wanted} are new, are ready: {counts:?}");
            Ok(())
        })
        .await
    }

    /// The pod that leads.
    ///
    /// # Errors
    /// Where none does.
    pub async fn leader(&self) -> Result<String> {
        let lease = self.own::<Lease>().get(names::CONTROLLER).await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
        let holder = holder.context("nobody holds the Lease")?;
        let pods = self.pods_of(names::CONTROLLER).await?;
        let mut named = pods.iter().map(ResourceExt::name_any);
        named.find(|pod| holder.contains(pod.as_str())).with_context(|| format!("{holder} is no pod's name"))
    }

    /// Waits until another pod leads.
    ///
    /// # Errors
    /// When it takes too long.
    pub async fn leader_other_than(&self, before: &str) -> Result<String> {
        lab::wait::until("another leader", wait::PATIENCE, async || {
            let leader = self.leader().await?;
            ensure!(leader != before, "{leader} still leads");
            Ok(leader)
        })
        .await
    }

    /// The peer list, as `weft peers` in the controller's pod prints it.
    ///
    /// # Errors
    /// As [`Self::weft`].
    pub async fn peers(&self) -> Result<Vec<Peer>> {
        let printed = self.weft(&["peers", "--output", "json"]).await?;
        serde_json::from_str(&printed).with_context(|| format!("weft peers printed {printed}"))
    }

    /// Runs `weft` in the pod that leads, for another one may be on a node that nobody reaches; returns what it prints.
    ///
    /// # Errors
    /// Where nobody leads, or it fails, with what it says.
    pub async fn weft(&self, words: &[&str]) -> Result<String> {
        let leader = self.leader().await?;
        self.kubectl(&[&["--namespace", NAMESPACE, "exec", &leader, "--", "weft"], words].concat()).await
    }
}

/// The status of a node's condition.
///
/// # Errors
/// Where it has none of that type.
pub fn condition<'a>(node: &'a v1::Node, kind: &str) -> Result<&'a str> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let found = conditions.into_iter().flatten().find(|condition| condition.type_ == kind);
    Ok(&found.with_context(|| format!("it has no condition {kind}"))?.status)
}
