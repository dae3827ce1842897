//! kube-proxy of the cluster: its configuration, and its new start.
//!
//! Owns the changes of one test, which puts back what it found.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use weft_e2e::kind::{Kind, wait};

/// kube-proxy.
pub(crate) struct KubeProxy {
    maps: Api<v1::ConfigMap>,
    daemons: Api<DaemonSet>,
}

impl KubeProxy {
    const NAME: &str = "kube-proxy";
    const KEY: &str = "config.conf";

    pub(crate) fn of(kind: &Kind) -> Self {
        let namespace = "kube-system";
        Self { maps: Api::namespaced(kind.client(), namespace), daemons: Api::namespaced(kind.client(), namespace) }
    }

    /// Its configuration, as YAML.
    pub(crate) async fn configuration(&self) -> Result<String> {
        let map = self.maps.get(Self::NAME).await?;
        map.data.and_then(|data| data.get(Self::KEY).cloned()).context("kube-proxy has no configuration")
    }

    /// Puts a configuration in place and waits until it holds everywhere.
    pub(crate) async fn configure(&self, text: &str) -> Result<()> {
        let map = json!({ "data": { (Self::KEY): text } });
        self.maps.patch(Self::NAME, &PatchParams::default(), &Patch::Merge(map)).await?;
        self.restart().await
    }

    /// Starts it anew on every node.
    pub(crate) async fn restart(&self) -> Result<()> {
        let generation = self.daemons.restart(Self::NAME).await?.metadata.generation;
        wait::object(&self.daemons, Self::NAME, "kube-proxy to be new everywhere", wait::PATIENCE, |object| {
            let status = object.and_then(|object| object.status.as_ref()).context("no status yet")?;
            ensure!(status.observed_generation >= generation, "the change was not seen yet");
            let counts = [status.updated_number_scheduled.unwrap_or_default(), status.number_ready];
            ensure!(counts == [status.desired_number_scheduled; 2], "are new, are ready: {counts:?}");
            Ok(())
        })
        .await
    }
}
