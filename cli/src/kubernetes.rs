//! The Kubernetes API as the one that answers.
//!
//! Owns how it is reached and what is read there. Must never write but the request to uninstall Weft: all else that an operator
//! changes, kubectl changes.

mod choose;
mod failure;
mod follow;
pub(crate) mod leader;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use k8s_openapi::api::{coordination::v1::Lease, core::v1::ConfigMap};
use kube::{
    Api, Client, Config, Resource,
    api::{ListParams, Patch, PatchParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::DeserializeGuard,
};
use serde::de::DeserializeOwned;
use weft_api::{PodCidrClaim, Vtep, names};

pub(crate) use self::choose::is_asked;
use self::failure::{Doing, Source};
use crate::args::KubernetesTarget;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For one page; 500 Vteps have about 1 MB.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const PAGE: u32 = 500;

/// A Vtep, or why the object is none: one that cannot be read hides no other.
pub(crate) type ReadVtep = DeserializeGuard<Vtep>;

/// A cluster whose API answers.
pub(crate) struct Cluster {
    client: Client,
    namespace: String,
    source: Source,
}

impl Cluster {
    /// Finds the API server; nothing is asked yet.
    pub(crate) async fn new(target: &KubernetesTarget) -> anyhow::Result<Self> {
        let (mut config, settings) = configuration(target).await?;
        config.connect_timeout = Some(CONNECT_LIMIT);
        let source = Source { server: config.cluster_url.to_string(), settings };
        let client = Client::try_from(config)
            .map_err(|error| anyhow::anyhow!("{}: {}", source.settings, failure::innermost(&error)))?;
        Ok(Self { client, namespace: target.namespace.clone(), source })
    }

    /// Address of the API server.
    pub(crate) fn server(&self) -> &str {
        &self.source.server
    }

    /// Where Weft was installed.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Every Vtep, by name.
    pub(crate) async fn vteps(&self) -> anyhow::Result<Vec<ReadVtep>> {
        let mut vteps = self.list(Api::all(self.client.clone()), "vteps.weft.dev").await?;
        vteps.sort_by(|a: &ReadVtep, b| a.meta().name.cmp(&b.meta().name));
        Ok(vteps)
    }

    /// Every claim of a pod CIDR.
    pub(crate) async fn claims(&self) -> anyhow::Result<Vec<DeserializeGuard<PodCidrClaim>>> {
        self.list(Api::all(self.client.clone()), "podcidrclaims.weft.dev").await
    }

    /// The Lease that the controllers compete for.
    pub(crate) async fn lease(&self) -> anyhow::Result<Lease> {
        self.get("leases.coordination.k8s.io", names::CONTROLLER).await
    }

    /// What belongs to the cluster as a whole.
    pub(crate) async fn cluster(&self) -> anyhow::Result<ConfigMap> {
        self.get("configmaps", names::CLUSTER).await
    }

    /// Changes what belongs to the cluster as a whole, by a merge patch (RFC 7386).
    pub(crate) async fn change_cluster(&self, patch: &serde_json::Value) -> anyhow::Result<ConfigMap> {
        let doing = Doing::patch("configmaps", names::CLUSTER, &self.namespace);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.answer(&doing, api.patch(names::CLUSTER, &params, &patch)).await
    }

    async fn list<K>(&self, api: Api<K>, resource: &'static str) -> anyhow::Result<Vec<K>>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let doing = Doing::list(resource);
        let mut items = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = self.answer(&doing, api.list(&page)).await?;
            items.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(items),
            }
        }
    }

    async fn get<K>(&self, resource: &'static str, name: &'static str) -> anyhow::Result<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let doing = Doing::get(resource, name, &self.namespace);
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        self.answer(&doing, api.get(name)).await
    }

    async fn answer<T>(
        &self,
        doing: &Doing<'_>,
        answer: impl Future<Output = Result<T, kube::Error>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(answer) => answer.map_err(|error| doing.explain(&error, &self.source)),
            Err(_) => Err(self.source.silent(ANSWER_LIMIT)),
        }
    }
}

/// The configuration of the client, and where it comes from.
async fn configuration(target: &KubernetesTarget) -> anyhow::Result<(Config, String)> {
    let is_named = target.kubeconfig.is_some() || target.context.is_some();
    if !is_named && choose::in_pod() {
        let config = Config::incluster().map_err(|error| {
            anyhow::anyhow!("this pod's service account cannot be used: {}", failure::innermost(&error))
        })?;
        return Ok((config, "this pod's service account".to_owned()));
    }
    let settings = match &target.kubeconfig {
        Some(path) => format!("kubeconfig {}", path.display()),
        None => format!("kubeconfig {}", choose::kubeconfig_name()),
    };
    let refused = |error: kube::config::KubeconfigError| {
        let cause = failure::innermost(&error);
        anyhow::anyhow!(
            "{settings}: {cause}; name another with --kubeconfig or KUBECONFIG, and a context of it with --context"
        )
    };
    let kubeconfig = match &target.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let options = KubeConfigOptions { context: target.context.clone(), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig.map_err(refused)?, &options).await.map_err(refused)?;
    Ok((config, settings))
}
