//! kube-proxy of one node: the real program in the node's namespace, with a configuration of its own.
//!
//! Owns its files and its process.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::{process::Command, sync::Mutex};
use weft_core::kernel::POD_LINK_PREFIX;

use super::{api::ApiServer, find};
use crate::lab::{Host, Process};

/// A kube-proxy that was configured.
pub(super) struct KubeProxy {
    host: Arc<Host>,
    directory: PathBuf,
    process: Mutex<Option<Process>>,
}

/// What differs from one start to the next.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// `ipvs`, `iptables` or `nftables`.
    pub(super) mode: String,
    /// `ipvs.strictARP`.
    pub(super) strict_arp: bool,
    pub(super) local: Local,
}

/// How it tells which traffic is the pods' own.
#[derive(Debug, Clone)]
pub(super) enum Local {
    /// By the pools.
    ClusterCidr(String),
    /// By the links that it comes from.
    PodLinks,
    /// Not at all.
    Nothing,
}

impl KubeProxy {
    /// Writes how to reach the API server; starts nothing.
    pub(super) fn new(host: Arc<Host>, api: &ApiServer) -> Result<Self> {
        let directory = host.directory().join("kube-proxy");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("kubeconfig"), api.kubeconfig().to_string())?;
        Ok(Self { host, directory, process: Mutex::default() })
    }

    /// Starts it.
    pub(super) async fn start(&self, settings: &Settings) -> Result<()> {
        let path = self.directory.join("config");
        fs::write(&path, self.configuration(settings).to_string())?;
        let mut command = Command::new(find("kube-proxy")?);
        command.arg("--config").arg(&path).arg("--v=2");
        let mut process = self.process.lock().await;
        if process.is_some() {
            bail!("kube-proxy of {} runs already", self.host.name());
        }
        *process = Some(self.host.spawn("kube-proxy", command)?);
        Ok(())
    }

    /// Ends it; what it programmed stays.
    pub(super) async fn stop(&self) -> Result<()> {
        self.process.lock().await.take().context("kube-proxy does not run")?.kill().await
    }

    /// Fails where it does not run.
    pub(super) async fn alive(&self) -> Result<()> {
        let mut process = self.process.lock().await;
        let running = process.as_mut().with_context(|| format!("kube-proxy of {} was stopped", self.host.name()))?;
        if let Some(status) = running.ended()? {
            bail!("kube-proxy of {} ended with {status}, see {}", self.host.name(), running.log().display());
        }
        Ok(())
    }

    fn configuration(&self, settings: &Settings) -> Value {
        let (detect, cluster_cidr) = match &settings.local {
            Local::ClusterCidr(pools) => ("ClusterCIDR", pools.as_str()),
            Local::PodLinks => ("InterfaceNamePrefix", ""),
            Local::Nothing => ("", ""),
        };
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": { "kubeconfig": self.directory.join("kubeconfig") },
            "hostnameOverride": self.host.name(),
            "mode": settings.mode,
            "clusterCIDR": cluster_cidr,
            "detectLocalMode": detect,
            "detectLocal": { "interfaceNamePrefix": if detect == "InterfaceNamePrefix" { POD_LINK_PREFIX } else { "" } },
            "ipvs": { "strictARP": settings.strict_arp },
            // The machine's, and not a namespace's to set.
            "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        })
    }
}
