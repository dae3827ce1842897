//! A pod: a namespace that a container runtime made and the CNI plugin attached.
//!
//! Owns its namespace and its CNI result. A pod that is dropped without [`Pod::delete`] is one whose runtime lost it.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use serde_json::Value;
use weft_core::types::{Family, PerFamily};

use super::{
    Agent,
    cni::{self, Attachment},
};
use crate::lab::{
    Host, Namespace,
    ping::{Answer, PATIENCE, ping},
};

/// The pod's interface.
pub(super) const INTERFACE: &str = "eth0";

static NEXT: AtomicU32 = AtomicU32::new(1);

/// An attached pod.
#[derive(Debug)]
pub struct Pod {
    name: String,
    agent: Arc<Agent>,
    net: Arc<Namespace>,
    list: Value,
    attachment: Attachment,
    result: Value,
    addresses: PerFamily<Option<IpAddr>>,
}

impl Pod {
    /// Makes a namespace and runs ADD.
    pub(super) async fn attach(agent: &Arc<Agent>, name: &str) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let list = cni::configuration(agent).await?;
        let net = Arc::new(Namespace::create(&format!("pod-{name}-{number}"))?);
        // What every runtime does itself, or has its loopback plugin do.
        net.set_defaults(false).await?;
        let attachment = Attachment {
            container: format!("{name}-{number:08x}"),
            namespace: net.path().to_string_lossy().into_owned(),
            interface: INTERFACE.to_owned(),
            arguments: format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=lab;K8S_POD_NAME={name}"),
        };
        let result = cni::add(agent, &list, &attachment).await?;
        let addresses = addresses(&result).with_context(|| format!("the CNI result of {name} is not usable"))?;
        Ok(Self { name: name.to_owned(), agent: Arc::clone(agent), net, list, attachment, result, addresses })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host it is on.
    pub fn host(&self) -> &Arc<Host> {
        self.agent.host()
    }

    /// Its namespace.
    pub const fn net(&self) -> &Arc<Namespace> {
        &self.net
    }

    /// Its addresses, as the CNI result has them.
    pub const fn addresses(&self) -> PerFamily<Option<IpAddr>> {
        self.addresses
    }

    /// Its address of a family.
    ///
    /// # Panics
    /// Where it has none: the cluster has no pool of that family.
    pub fn address(&self, family: Family) -> IpAddr {
        self.addresses.get(family).unwrap_or_else(|| panic!("pod {} has no {family} address", self.name))
    }

    /// The CNI result of ADD.
    pub const fn result(&self) -> &Value {
        &self.result
    }

    /// One echo request.
    ///
    /// # Errors
    /// Where no raw socket can be opened.
    pub async fn ping(&self, to: IpAddr) -> Result<Answer> {
        ping(&self.net, to, PATIENCE).await
    }

    /// The round trip to `to`.
    ///
    /// # Errors
    /// Where no reply comes.
    pub async fn reaches(&self, to: IpAddr) -> Result<Duration> {
        self.ping(to).await?.reply().with_context(|| format!("pod {} does not reach {to}", self.name))
    }

    /// CHECK.
    ///
    /// # Errors
    /// What the plugin finds wrong.
    pub async fn check(&self) -> Result<()> {
        cni::check(&self.agent, &self.list, &self.attachment, &self.result).await
    }

    /// DEL, then the end of its namespace.
    ///
    /// # Errors
    /// Where the plugin fails.
    pub async fn delete(self) -> Result<()> {
        cni::delete(&self.agent, &self.list, &self.attachment, &self.result).await
    }
}

fn addresses(result: &Value) -> Result<PerFamily<Option<IpAddr>>> {
    let mut addresses = PerFamily::default();
    for ip in result["ips"].as_array().context("no ips")? {
        let network: IpNetwork = ip["address"].as_str().context("an entry of ips without an address")?.parse()?;
        *addresses.get_mut(Family::of(network.ip())) = Some(network.ip());
    }
    Ok(addresses)
}
