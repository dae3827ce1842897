//! Helm's own records of a release, `sh.helm.release.v1.NAME.vN`: what Helm is doing with it right now.
//!
//! Owns how the newest is found. RBAC knows no patterns, so each name is asked for; those of earlier revisions than this
//! release's may not be read, and there may be gaps. Must never read what is in a record: its label says enough.

use futures::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
    serde::de::DeserializeOwned,
};
use kube::{Api, Client, Resource, ResourceExt as _};
use weft_api::UninstallRequest;

/// Revisions looked at, from the hook's own on; the chart's Role names as many.
const REVISIONS: u32 = 100;
/// Requests under way at a time.
const PARALLEL: usize = 16;
/// The label in which Helm keeps the status.
const STATUS: &str = "status";
/// Its value from before the hooks of an uninstallation are created until the records are removed.
const UNINSTALLING: &str = "uninstalling";

/// What the newest record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Helm is uninstalling the release, or an uninstallation failed and nothing was done since.
    Uninstalling,
    /// Anything else, as Helm writes it, such as `deployed`.
    Other(String),
    /// There is none that could be read.
    Absent,
}

/// Looks for the newest record, which Helm keeps as a Secret or as a ConfigMap.
///
/// # Errors
/// Where the API server does not answer.
pub(super) async fn newest(client: &Client, namespace: &str, request: &UninstallRequest) -> kube::Result<Record> {
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    let found = match newest_of(&secrets, request).await? {
        Record::Absent => newest_of(&Api::<ConfigMap>::namespaced(client.clone(), namespace), request).await?,
        found => found,
    };
    Ok(found)
}

async fn newest_of<K>(api: &Api<K>, request: &UninstallRequest) -> kube::Result<Record>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let revisions = request.revision..request.revision.saturating_add(REVISIONS);
    let asked = revisions.map(|revision| {
        let name = format!("sh.helm.release.v1.{}.v{revision}", request.release);
        async move { status(api, &name).await }
    });
    let found: Vec<_> = futures::stream::iter(asked).buffered(PARALLEL).collect().await;
    let mut newest = Record::Absent;
    for status in found {
        match status? {
            None => {}
            Some(status) if status == UNINSTALLING => newest = Record::Uninstalling,
            Some(status) => newest = Record::Other(status),
        }
    }
    Ok(newest)
}

/// The status in a record's label; none where there is no such record, or where it may not be read.
async fn status<K>(api: &Api<K>, name: &str) -> kube::Result<Option<String>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.get_metadata(name).await {
        Ok(record) => Ok(Some(record.labels().get(STATUS).cloned().unwrap_or_default())),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 403 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::json;

    use super::*;
    use crate::kubernetes::fake::FakeApi;

    fn record(api: &FakeApi, kind: &str, revision: u32, status: &str) {
        let name = format!("sh.helm.release.v1.weft.v{revision}");
        let metadata = json!({ "name": name, "labels": { "status": status } });
        let object = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata });
        api.put(&format!("/api/v1/namespaces/net/{kind}/{name}"), object);
    }

    #[tokio::test]
    async fn the_newest_record_counts_wherever_helm_keeps_it() {
        let api = FakeApi::default();
        let request = UninstallRequest { release: "weft".to_owned(), revision: 2, by: String::new(), beat: 1 };
        let now = || async { newest(&api.client(), "net", &request).await.expect("it answers") };
        assert_eq!(now().await, Record::Absent);
        record(&api, "configmaps", 2, "uninstalling");
        assert_eq!(now().await, Record::Uninstalling);
        record(&api, "secrets", 2, "uninstalling");
        // A rollback and an upgrade came after the uninstallation that failed; a revision between is gone.
        record(&api, "secrets", 7, "deployed");
        assert_eq!(now().await, Record::Other("deployed".to_owned()));
        record(&api, "secrets", 8, "uninstalling");
        assert_eq!(now().await, Record::Uninstalling);
    }
}
