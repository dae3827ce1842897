//! The pods of Weft's own programs: which there are, their ends and their new lives.
//!
//! Owns killing them, as a test of an outage does. Must never keep one from coming back; [`super::Absent`] does that.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use weft_api::names;

use super::{Kind, pod, wait};
use crate::lab;

impl Kind {
    /// The pods of `weft-controller` or `weft-agent`.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub async fn pods_of(&self, program: &str) -> Result<Vec<v1::Pod>> {
        let pods = self.own::<v1::Pod>().list(&ListParams::default()).await?;
        Ok(pods.items.into_iter().filter(|pod| pod.name_any().starts_with(&format!("{program}-"))).collect())
    }

    /// The pod of a node's agent.
    ///
    /// # Errors
    /// Where it has none.
    pub async fn agent_on(&self, node: &str) -> Result<v1::Pod> {
        let pods = self.pods_of(names::AGENT).await?;
        let on = |pod: &v1::Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        pods.into_iter().find(on).with_context(|| format!("{node} has no agent"))
    }

    /// How often each pod of these programs was started again.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub async fn lives(&self, programs: &[&str]) -> Result<BTreeMap<String, i32>> {
        let mut lives = BTreeMap::new();
        for program in programs {
            lives.extend(self.pods_of(program).await?.iter().map(|pod| (pod.name_any(), restarts(pod))));
        }
        Ok(lives)
    }

    /// Waits until each of these pods was started again.
    ///
    /// # Errors
    /// When it takes too long.
    pub async fn reborn(&self, before: BTreeMap<String, i32>) -> Result<()> {
        for (name, lives) in before {
            wait::object(&self.own::<v1::Pod>(), &name, &format!("{name} to start again"), wait::PATIENCE, |pod| {
                let now = restarts(pod.context("it is gone")?);
                ensure!(now > lives, "it was started again {now} times, as before");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until none of these pods is left, and as many others are ready.
    ///
    /// # Errors
    /// When it takes too long, with what is missing.
    pub async fn replaced(&self, program: &str, before: &[String]) -> Result<()> {
        lab::wait::until(&format!("other pods of {program}"), wait::PATIENCE, async || {
            let pods = self.pods_of(program).await?;
            let old = pods.iter().find(|pod| before.contains(&pod.name_any()));
            ensure!(old.is_none(), "{} is still there", old.map(ResourceExt::name_any).unwrap_or_default());
            let ready = pods.iter().filter(|pod| pod::look(Some(pod)).is_ok()).count();
            ensure!(ready == before.len(), "of {} there are {}, {ready} are ready", before.len(), pods.len());
            Ok(())
        })
        .await
    }

    /// Kills a pod of ours without its grace.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn kill(&self, pod: &str) -> Result<()> {
        self.own::<v1::Pod>().delete(pod, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }
}

fn restarts(pod: &v1::Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| container.restart_count).sum()
}
