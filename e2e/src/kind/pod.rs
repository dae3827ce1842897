//! A pod that Kubernetes runs.
//!
//! Owns the way into its network namespace, from which the tests speak as the pod would.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1;
use weft_core::types::Family;

use super::{
    manifest::{HTTP_PORT, UDP_PORT},
    netns,
};
use crate::lab::{
    Namespace,
    ping::{PATIENCE, ping},
};

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    name: String,
    node: String,
    addresses: Vec<IpAddr>,
    net: Arc<Namespace>,
}

impl Pod {
    /// Enters a pod that runs.
    pub(super) fn open(object: &v1::Pod) -> Result<Self> {
        let uid = object.metadata.uid.as_deref().context("a pod without a UID")?;
        let name = object.metadata.name.clone().context("a pod without a name")?;
        let node = object.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("a pod without a node")?;
        let listed = object.status.as_ref().and_then(|status| status.pod_ips.clone()).unwrap_or_default();
        let addresses = listed.iter().filter_map(|listed| listed.ip.parse().ok()).collect();
        let net = Arc::new(Namespace::adopt(&name, &netns::of_pod(uid)?)?);
        Ok(Self { name, node, addresses, net })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its network namespace.
    pub const fn net(&self) -> &Arc<Namespace> {
        &self.net
    }

    /// Its address of a family.
    ///
    /// # Panics
    /// Where it has none.
    pub fn address(&self, family: Family) -> IpAddr {
        let mut addresses = self.addresses.iter().copied();
        let found = addresses.find(|address| Family::of(*address) == family);
        found.unwrap_or_else(|| panic!("pod {} has no {family} address", self.name))
    }

    /// Where it answers HTTP.
    pub fn http(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.address(family), HTTP_PORT)
    }

    /// Where it answers UDP.
    pub fn udp(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.address(family), UDP_PORT)
    }

    /// The round trip to `to`.
    ///
    /// # Errors
    /// Where no reply comes.
    pub async fn reaches(&self, to: IpAddr) -> Result<Duration> {
        let answer = ping(&self.net, to, PATIENCE).await?;
        answer.reply().with_context(|| format!("pod {} on {} does not reach {to}", self.name, self.node))
    }
}

/// Fails unless a pod is ready to be asked.
pub(super) fn look(object: Option<&v1::Pod>) -> Result<v1::Pod> {
    let object = object.context("there is no such pod")?;
    let Some(status) = &object.status else { bail!("it has no status yet") };
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    let why = || {
        let waiting = status.container_statuses.iter().flatten().find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            Some(format!("{:?} {:?}", waiting.reason, waiting.message))
        });
        format!("it is {:?} {:?}, {}", status.phase, status.reason, waiting.unwrap_or_default())
    };
    ensure!(ready.is_some_and(|condition| condition.status == "True"), why());
    ensure!(status.pod_ips.iter().flatten().next().is_some(), "it has no address");
    Ok(object.clone())
}
