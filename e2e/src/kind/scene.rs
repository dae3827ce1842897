//! What one test puts into the cluster: a namespace of Kubernetes with pods and services.
//!
//! Owns their life; [`Scene::end`] takes all of it away again, and so does the harness of a test that failed.

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::{core::v1, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::{Value, json};
use weft_core::types::Family;

use super::{
    Kind, manifest,
    node::Node,
    pod::{self, Pod},
    wait,
};
use crate::lab;

/// Where the server in each pod answers HTTP.
pub const HTTP_PORT: u16 = manifest::HTTP_PORT;
/// Where it answers UDP.
pub const UDP_PORT: u16 = manifest::UDP_PORT;

/// A service that is wanted.
#[derive(Debug, Clone)]
pub struct Service<'a> {
    /// Its name.
    pub name: &'a str,
    /// The app whose pods are behind it.
    pub app: &'a str,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// What differs from a ClusterIP service, as a patch of the object.
    pub changes: Value,
}

/// A port of a service.
#[derive(Debug, Clone, Copy)]
pub struct ServicePort {
    /// Its name.
    pub name: &'static str,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// The service's.
    pub port: u16,
    /// The pods'.
    pub target: u16,
}

impl<'a> Service<'a> {
    /// A ClusterIP service in front of an app's pods: HTTP on port 80, UDP on port 90.
    pub fn new(name: &'a str, app: &'a str) -> Self {
        let http = ServicePort { name: "http", protocol: "TCP", port: 80, target: HTTP_PORT };
        let udp = ServicePort { name: "udp", protocol: "UDP", port: 90, target: UDP_PORT };
        Self { name, app, ports: vec![http, udp], changes: json!({}) }
    }

    /// With a patch of the object.
    #[must_use]
    pub fn with(mut self, changes: Value) -> Self {
        self.changes = changes;
        self
    }
}

/// A namespace of a test.
pub struct Scene {
    client: Client,
    name: String,
    image: String,
}

impl Scene {
    /// Makes the namespace.
    ///
    /// # Errors
    /// Where it is there already.
    pub async fn set(kind: &Kind, name: &str) -> Result<Self> {
        let client = kind.client();
        // A namespace goes long after its pods have gone; that of an earlier run may still be there.
        let name = format!("e2e-{name}-{}", std::process::id());
        let namespaces: Api<v1::Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &manifest::namespace(&name)).await?;
        let accounts: Api<v1::ServiceAccount> = Api::namespaced(client.clone(), &name);
        // Without it no pod is admitted.
        wait::object(&accounts, "default", "the namespace's account", wait::PATIENCE, |account| {
            account.map(|_| ()).context("there is none")
        })
        .await?;
        Ok(Self { client, name, image: kind.description().images.agnhost.clone() })
    }

    /// The namespace's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pods in it.
    pub fn pods(&self) -> Api<v1::Pod> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// The services in it.
    pub fn services(&self) -> Api<v1::Service> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// A pod that serves, on a node; it is in an app of its own name.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub async fn pod(&self, name: &str, node: &Node) -> Result<Pod> {
        self.pod_with(name, name, node, &json!({})).await
    }

    /// A pod of an app, with a patch of its manifest.
    ///
    /// # Errors
    /// Where it does not get ready.
    pub async fn pod_with(&self, name: &str, app: &str, node: &Node, changes: &Value) -> Result<Pod> {
        self.create_pod(name, app, node, changes).await?;
        self.ready(name).await
    }

    /// Asks for a pod without waiting for it.
    ///
    /// # Errors
    /// Where the API server refuses it.
    pub async fn create_pod(&self, name: &str, app: &str, node: &Node, changes: &Value) -> Result<()> {
        let manifest = manifest::pod(name, app, node.name(), &self.image, changes);
        self.pods().create(&PostParams::default(), &manifest).await?;
        Ok(())
    }

    /// Waits until a pod is ready.
    ///
    /// # Errors
    /// Where it takes too long, with what it waits for.
    pub async fn ready(&self, name: &str) -> Result<Pod> {
        let what = format!("pod {name} to be ready");
        Pod::open(&wait::object(&self.pods(), name, &what, wait::PATIENCE, pod::look).await?)
    }

    /// A pod on each of these nodes, all in one app, called APP-NODE.
    ///
    /// # Errors
    /// Where one does not get ready.
    pub async fn pods_of(&self, app: &str, nodes: &[&Arc<Node>]) -> Result<Vec<Pod>> {
        let each = nodes.iter().map(async |node| {
            let name = format!("{app}-{}", node.name());
            self.pod_with(&name, app, node, &json!({})).await
        });
        try_join_all(each).await
    }

    /// Makes a service and waits until it has this many endpoints that are ready, of each family that it has.
    ///
    /// # Errors
    /// Where it does not get them.
    pub async fn service(&self, service: &Service<'_>, endpoints: usize) -> Result<v1::Service> {
        let made = self.services().create(&PostParams::default(), &manifest::service(service)).await?;
        let families = made.spec.as_ref().and_then(|spec| spec.ip_families.as_ref()).map_or(1, Vec::len);
        self.endpoints(service.name, endpoints * families).await?;
        Ok(made)
    }

    /// Waits until a service has this many endpoints that are ready, in all families together.
    ///
    /// # Errors
    /// Where it does not get them.
    pub async fn endpoints(&self, service: &str, wanted: usize) -> Result<()> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.name);
        let selected = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        // A service has any number of slices, so that no single object can be watched.
        lab::wait::until(&format!("{wanted} endpoints of {service}"), wait::PATIENCE, async || {
            let listed = slices.list(&selected).await?;
            let endpoints = listed.items.iter().flat_map(|slice| &slice.endpoints);
            let ready = endpoints.filter(|endpoint| {
                endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true))
            });
            let count = ready.count();
            ensure!(count == wanted, "{count} are ready");
            Ok(())
        })
        .await
    }

    /// Deletes a pod and waits for its end.
    ///
    /// # Errors
    /// Where it does not end.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        self.pods().delete(name, &DeleteParams::default()).await?;
        wait::gone(&self.pods(), name, wait::PATIENCE).await
    }

    /// Takes all of it away, and waits until its pods have ended.
    ///
    /// # Errors
    /// Where they do not end.
    pub async fn end(self) -> Result<()> {
        end(&self.client, &self.name).await
    }
}

/// Deletes a namespace and waits for the end of its pods; what else is in it goes by and by.
async fn end(client: &Client, name: &str) -> Result<()> {
    let namespaces: Api<v1::Namespace> = Api::all(client.clone());
    let pods: Api<v1::Pod> = Api::namespaced(client.clone(), name);
    let deleted = namespaces.delete(name, &DeleteParams::default()).await;
    deleted.with_context(|| format!("namespace {name} cannot be deleted"))?;
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    for pod in pods.list(&ListParams::default()).await? {
        wait::gone(&pods, &pod.name_any(), wait::PATIENCE).await?;
    }
    Ok(())
}

/// The address and port of a service in a family.
///
/// # Errors
/// Where it has none.
pub fn cluster_ip(service: &v1::Service, family: Family, port: u16) -> Result<SocketAddr> {
    let listed = service.spec.as_ref().and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
    let mut parsed = listed.iter().filter_map(|address| address.parse::<IpAddr>().ok());
    let found = parsed.find(|address| Family::of(*address) == family);
    let found = found.with_context(|| format!("service {} has no {family} address", service.name_any()))?;
    Ok(SocketAddr::new(found, port))
}

/// Takes away what tests that ended before their end have left.
///
/// # Errors
/// Where it does not go.
pub(super) async fn clear(client: &Client) -> Result<()> {
    let namespaces: Api<v1::Namespace> = Api::all(client.clone());
    for namespace in namespaces.list(&ListParams::default().labels(manifest::MARK)).await? {
        if namespace.metadata.deletion_timestamp.is_none() {
            end(client, &namespace.name_any()).await?;
        }
    }
    Ok(())
}
