//! A node without its agent, while all others keep theirs.
//!
//! Owns the DaemonSet meanwhile: it is taken away without its pods, so that nobody makes a new one for the node, and put
//! back as it was, whereupon it takes its pods for its own again. Helm puts it back too, if a test dies between.

use anyhow::{Result, ensure};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use weft_api::names;

use super::{Kind, Node, wait};

/// What is missing.
#[derive(Debug)]
#[must_use = "the agent comes back only when it is restored"]
pub struct Absent {
    daemons: Api<DaemonSet>,
    object: DaemonSet,
}

impl Kind {
    /// Ends the agent of a node and keeps it away.
    ///
    /// # Errors
    /// Where it does not end.
    pub async fn remove_agent(&self, node: &Node) -> Result<Absent> {
        let (daemons, pods) = (self.own::<DaemonSet>(), self.own::<v1::Pod>());
        let mut object = daemons.get(names::AGENT).await?;
        let pod = self.agent_on(node.name()).await?.name_any();
        daemons.delete(names::AGENT, &DeleteParams::orphan()).await?;
        wait::gone(&daemons, names::AGENT, wait::PATIENCE).await?;
        pods.delete(&pod, &DeleteParams::default()).await?;
        wait::gone(&pods, &pod, wait::PATIENCE).await?;
        ensure!(self.agent_on(node.name()).await.is_err(), "{} has an agent again", node.name());
        let metadata = std::mem::take(&mut object.metadata);
        object.metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            labels: metadata.labels,
            annotations: metadata.annotations,
            ..ObjectMeta::default()
        };
        object.status = None;
        Ok(Absent { daemons, object })
    }
}

impl Absent {
    /// Lets the agent come back.
    ///
    /// # Errors
    /// Where the API server refuses it.
    pub async fn restore(self) -> Result<()> {
        self.daemons.create(&PostParams::default(), &self.object).await?;
        Ok(())
    }
}
