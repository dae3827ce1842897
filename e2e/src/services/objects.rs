//! What the API server is told: Nodes, Services and EndpointSlices.
//!
//! Owns their form and the Services' addresses. Whoever makes a Service here says itself what is behind it: nobody else does.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use weft_core::types::Family;

use crate::lab::{Host, wait};

/// Where Services have their addresses.
pub(super) const SERVICE_NETWORKS: &str = "10.96.0.0/16,fd96::/112";
/// The port of every Service, of TCP and UDP.
pub(super) const PORT: u16 = 80;
/// The port of every backend.
pub(super) const TARGET: u16 = 8080;
/// The second port of every Service, of UDP alone, and of every backend: for streams.
pub(super) const STREAM_PORT: u16 = 90;
pub(super) const STREAM_TARGET: u16 = 9090;
/// How long the API server may take for one object.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who writes.
const WRITER: &str = "weft-lab";
const NAMESPACE: &str = "default";

/// A Service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) name: String,
    /// Its number in [`SERVICE_NETWORKS`].
    pub(super) number: u8,
    /// Its port on every node, where it has one.
    pub(super) node_port: Option<u16>,
    /// The backends' port behind [`PORT`].
    pub(super) target: u16,
    /// More of its specification.
    pub(super) more: Value,
}

impl Service {
    /// A Service with a ClusterIP of each family.
    pub(super) fn new(name: &str, number: u8) -> Self {
        Self { name: name.to_owned(), number, node_port: None, target: TARGET, more: Value::Null }
    }

    /// The same, one of many.
    pub(super) fn numbered(kind: &str, number: u8) -> Self {
        Self::new(&format!("{kind}-{number}"), number)
    }

    /// The same with another port of the backends.
    pub(super) fn to(mut self, target: u16) -> Self {
        self.target = target;
        self
    }

    /// The same with a port on every node.
    pub(super) fn on_nodes(mut self, port: u16) -> Self {
        self.node_port = Some(port);
        self
    }

    /// The same with more in its specification.
    pub(super) fn with(mut self, more: Value) -> Self {
        self.more = more;
        self
    }

    /// Its ClusterIP.
    pub(super) fn ip(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => [10, 96, 0, self.number].into(),
            Family::V6 => [0xfd96_u16, 0, 0, 0, 0, 0, 0, u16::from(self.number)].into(),
        }
    }

    /// Name, protocol, port and the backends' port of each.
    const fn ports(&self) -> [(&'static str, &'static str, u16, u16); 3] {
        [
            ("tcp", "TCP", PORT, self.target),
            ("udp", "UDP", PORT, self.target),
            ("stream", "UDP", STREAM_PORT, STREAM_TARGET),
        ]
    }

    fn object(&self, families: &[Family]) -> Value {
        let mut ports = self.ports().map(|(name, protocol, port, target)| {
            json!({ "name": name, "protocol": protocol, "port": port, "targetPort": target })
        });
        if let Some(node_port) = self.node_port {
            ports.iter_mut().filter(|port| port["port"] == PORT).for_each(|port| port["nodePort"] = node_port.into());
        }
        let ips: Vec<_> = families.iter().map(|family| self.ip(*family).to_string()).collect();
        let mut spec = json!({
            "type": if self.node_port.is_some() { "NodePort" } else { "ClusterIP" },
            "clusterIP": ips[0],
            "clusterIPs": ips,
            "ipFamilies": families.iter().map(|family| family.to_string()).collect::<Vec<_>>(),
            "ipFamilyPolicy": if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            "ports": ports,
        });
        if let (Value::Object(spec), Value::Object(more)) = (&mut spec, &self.more) {
            spec.extend(more.clone());
        }
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": self.name }, "spec": spec })
    }
}

/// One address behind a Service.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) node: String,
}

/// The lab's writer of objects.
pub(super) struct Objects {
    nodes: Api<v1::Node>,
    services: Api<v1::Service>,
    slices: Api<EndpointSlice>,
    families: Vec<Family>,
}

impl Objects {
    pub(super) fn new(client: &Client, families: &[Family]) -> Self {
        Self {
            nodes: Api::all(client.clone()),
            services: Api::namespaced(client.clone(), NAMESPACE),
            slices: Api::namespaced(client.clone(), NAMESPACE),
            families: families.to_vec(),
        }
    }

    /// A Node as its kubelet registers it.
    pub(super) async fn node(&self, host: &Host, pod_cidrs: &[String]) -> Result<()> {
        let addresses: Vec<_> = self
            .families
            .iter()
            .map(|family| json!({ "type": "InternalIP", "address": host.address(*family).to_string() }))
            .collect();
        let node: v1::Node = serde_json::from_value(json!({
            "metadata": { "name": host.name() },
            "spec": { "podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs },
            "status": { "addresses": addresses },
        }))?;
        self.nodes.create(&PostParams::default(), &node).await.with_context(|| format!("node {}", host.name()))?;
        Ok(())
    }

    /// Puts a Service in place, with these endpoints behind it.
    pub(super) async fn service(&self, service: &Service, endpoints: &[Endpoint]) -> Result<()> {
        self.endpoints(service, endpoints).await?;
        let object = Patch::Apply(service.object(&self.families));
        told(&format!("Service {}", service.name), async || {
            self.services.patch(&service.name, &writer(), &object).await.map(drop)
        })
        .await
    }

    /// Says what is behind a Service.
    pub(super) async fn endpoints(&self, service: &Service, endpoints: &[Endpoint]) -> Result<()> {
        for family in &self.families {
            let name = format!("{}-{}", service.name, family.to_string().to_lowercase());
            let object = Patch::Apply(slice(service, &name, *family, endpoints));
            told(&format!("EndpointSlice {name}"), async || {
                self.slices.patch(&name, &writer(), &object).await.map(drop)
            })
            .await?;
        }
        Ok(())
    }

    /// Takes a Service away.
    pub(super) async fn remove(&self, service: &Service) -> Result<()> {
        told(&format!("Service {}", service.name), async || {
            gone(self.services.delete(&service.name, &DeleteParams::default()).await.map(drop))
        })
        .await?;
        for family in &self.families {
            let name = format!("{}-{}", service.name, family.to_string().to_lowercase());
            told(&format!("EndpointSlice {name}"), async || {
                gone(self.slices.delete(&name, &DeleteParams::default()).await.map(drop))
            })
            .await?;
        }
        Ok(())
    }
}

/// Tells it again where that fails: the API server ends connections on which nothing was asked for a while, as the next question
/// is on its way.
async fn told(what: &str, tell: impl AsyncFn() -> kube::Result<()>) -> Result<()> {
    wait::until(&format!("the API server to take {what}"), PATIENCE, async || Ok(tell().await?)).await
}

/// What is not there needs no deletion.
fn gone(deleted: kube::Result<()>) -> kube::Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

fn writer() -> PatchParams {
    PatchParams::apply(WRITER).force()
}

fn slice(service: &Service, name: &str, family: Family, endpoints: &[Endpoint]) -> Value {
    let endpoints = endpoints.iter().filter(|endpoint| Family::of(endpoint.address) == family).map(|endpoint| {
        json!({
            "addresses": [endpoint.address.to_string()],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": endpoint.node,
        })
    });
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "name": name, "labels": {
            "kubernetes.io/service-name": service.name, "endpointslice.kubernetes.io/managed-by": WRITER } },
        "addressType": family.to_string(),
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": service.ports().map(|(name, protocol, _, target)| json!({ "name": name, "protocol": protocol, "port": target })),
    })
}
