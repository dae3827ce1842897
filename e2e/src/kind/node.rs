//! A node: a container with a kernel view, a kubelet and a container runtime of its own.
//!
//! Owns the ways into it: its network namespace, programs run in all its namespaces, its cable.

use std::{net::IpAddr, sync::Arc};

use anyhow::{Context, Result};
use kube::{Api, Client};
use tokio::process::Command;
use weft_core::types::Family;

use super::{description::NodeDescription, shell};
use crate::lab::{Capture, Namespace};

/// A node.
#[derive(Debug)]
pub struct Node {
    description: NodeDescription,
    net: Arc<Namespace>,
}

impl Node {
    /// Enters it.
    pub(super) fn open(description: NodeDescription) -> Result<Self> {
        let path = format!("/proc/{}/ns/net", description.pid);
        let net = Namespace::adopt(&description.name, path.as_ref())
            .with_context(|| format!("node {} is not running: try ./dev cluster status", description.name))?;
        Ok(Self { description, net: Arc::new(net) })
    }

    /// Its name in Kubernetes.
    pub fn name(&self) -> &str {
        &self.description.name
    }

    /// The subnet it is in.
    pub fn subnet(&self) -> &str {
        &self.description.subnet
    }

    /// True where it is the control plane.
    pub fn is_control_plane(&self) -> bool {
        self.description.role == "control-plane"
    }

    /// Its network namespace.
    pub const fn net(&self) -> &Arc<Namespace> {
        &self.net
    }

    /// Its link to its subnet: the one that leads everywhere.
    ///
    /// # Errors
    /// Where it has none.
    pub async fn uplink(&self) -> Result<String> {
        let printed = self.run(&["ip", "-json", "route", "show", "default"]).await?;
        let routes: Vec<serde_json::Value> = serde_json::from_str(&printed)?;
        let link = routes.first().and_then(|route| route["dev"].as_str());
        Ok(link.with_context(|| format!("node {} has no default route", self.name()))?.to_owned())
    }

    /// Captures what passes its uplink.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub async fn capture(&self) -> Result<Capture> {
        Capture::start(&self.net, &self.uplink().await?)
    }

    /// Runs a program in it and returns what it prints.
    ///
    /// # Errors
    /// Where it fails, with what it says.
    pub async fn run(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        let pid = self.description.pid.to_string();
        command.args(["--target", &pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--"]).args(words);
        shell::run(command).await.with_context(|| format!("on node {}", self.name()))
    }

    /// Runs a line of shell in it and returns what it prints.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn sh(&self, script: &str) -> Result<String> {
        self.run(&["sh", "-c", script]).await
    }

    /// Unplugs it from its subnet or plugs it in again: the router's end of its cable goes down or up.
    ///
    /// # Errors
    /// Where the cable is not found.
    pub async fn set_connected(&self, router: &Namespace, connected: bool) -> Result<()> {
        let index = self.run(&["cat", &format!("/sys/class/net/{}/iflink", self.uplink().await?)]).await?;
        let index: u64 = index.trim().parse()?;
        let links = shell::run({
            let mut command = Command::new("ip");
            command.args(["-json", "link", "show"]);
            command
        })
        .await?;
        let links: Vec<serde_json::Value> = serde_json::from_str(&links)?;
        let far = links.iter().find(|link| link["ifindex"].as_u64() == Some(index));
        let far = far.and_then(|link| link["ifname"].as_str()).context("this machine has no end of its cable")?;
        router.wire().set_up(far, connected).await
    }

    /// Gives an image that its runtime has one more name.
    ///
    /// # Errors
    /// Where it has no such image.
    pub async fn tag_image(&self, image: &str, name: &str) -> Result<()> {
        self.run(&["ctr", "--namespace", "k8s.io", "images", "tag", "--force", image, name]).await?;
        Ok(())
    }

    /// Takes a name of an image away again.
    ///
    /// # Errors
    /// Where the runtime cannot be asked.
    pub async fn untag_image(&self, name: &str) -> Result<()> {
        self.run(&["ctr", "--namespace", "k8s.io", "images", "remove", "--sync", name]).await?;
        Ok(())
    }

    /// The node's object.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn object(&self, client: &Client) -> Result<k8s_openapi::api::core::v1::Node> {
        Ok(Api::all(client.clone()).get(self.name()).await?)
    }

    /// Its own address of a family, as Kubernetes has it.
    ///
    /// # Errors
    /// Where it has none.
    pub async fn address(&self, client: &Client, family: Family) -> Result<IpAddr> {
        let object = self.object(client).await?;
        let addresses = object.status.and_then(|status| status.addresses).unwrap_or_default();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        let mut parsed = internal.filter_map(|address| address.address.parse::<IpAddr>().ok());
        let found = parsed.find(|address| Family::of(*address) == family);
        found.with_context(|| format!("node {} has no {family} address", self.name()))
    }
}
