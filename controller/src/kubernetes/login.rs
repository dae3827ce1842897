//! Joining on Kubernetes: by the ServiceAccount token of the agent's pod.
//!
//! Owns the order: the API server says whose a token is, and then the cluster which life of the node that is. Must never log a token.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};

use super::tokens::{Asker, Reviewer};
use crate::{
    clock,
    cluster::Cluster,
    metrics::Metrics,
    rpc::{Attempt, Login, LoginError, Renewal},
};

/// By such a token for each certificate.
#[derive(Debug)]
pub(crate) struct ServiceAccounts {
    pub(crate) reviewer: Reviewer,
    pub(crate) cluster: Cluster,
    pub(crate) metrics: Arc<Metrics>,
}

impl ServiceAccounts {
    async fn join(&self, attempt: Attempt<'_>) -> Result<u64, LoginError> {
        let Attempt { node, source, .. } = attempt;
        let refused = |label: &'static str, why: &dyn std::fmt::Display| {
            self.metrics.join(label);
            tracing::warn!(%node, %source, "join refused: {why}");
        };
        let reviewed = self.reviewer.review(&self.asker(attempt), node, attempt.token).await;
        let reviewed = reviewed.inspect_err(|why| refused(why.label(), why))?;
        let known = self.cluster.identify(node.clone(), reviewed.node_uid).await;
        let incarnation = known.inspect_err(|why| refused(why.label(), why))?;
        self.metrics.join("ok");
        tracing::debug!(%node, pod = reviewed.pod, incarnation, "joined");
        Ok(incarnation)
    }

    /// Whom a refused token counts against. Pods speak from their node's address, and must not shut out its agent: a good
    /// certificate counts for itself.
    fn asker(&self, attempt: Attempt<'_>) -> Asker {
        let is_member = |node: &&_| self.cluster.roll().check(node, clock::unix_seconds()).is_ok();
        match attempt.shown.filter(is_member) {
            Some(node) => Asker::Node(node.name.clone(), node.incarnation),
            None => Asker::Address(attempt.source),
        }
    }
}

impl Login for ServiceAccounts {
    fn log_in<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<u64, LoginError>> {
        self.join(attempt).boxed()
    }

    fn renewal(&self) -> Renewal {
        Renewal::ByLogin {
            refusal: "certificates are not renewed on Kubernetes: join again with the ServiceAccount token of the agent's pod",
        }
    }
}
