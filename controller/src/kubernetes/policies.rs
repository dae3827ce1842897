//! NetworkPolicy objects, which Weft does not enforce.
//!
//! Owns the word about that: an Event while there are such objects and nobody was named who enforces them. Must never read more
//! of them than that they are there.

use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use tokio::time::sleep;

use super::{Leader, uninstall::reference};

/// Between two looks.
const AGAIN: Duration = Duration::from_secs(300);

/// Runs until the cluster stops; not at all where an engine was named.
pub(super) async fn run(leader: Leader, engine: Option<String>) -> anyhow::Result<()> {
    if let Some(engine) = engine {
        tracing::info!(engine, "NetworkPolicy objects are enforced by another program");
        return std::future::pending().await;
    }
    loop {
        match first(&leader.client).await {
            Ok(Some(policy)) => {
                tracing::warn!(policy, "NetworkPolicy objects have no effect");
                leader.events.warn(&reference(&leader.namespace), "NetworkPolicyIgnored", &note(&policy));
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("NetworkPolicy objects cannot be listed: {error}"),
        }
        sleep(AGAIN).await;
    }
}

/// One of the policies, as NAMESPACE/NAME.
async fn first(client: &Client) -> kube::Result<Option<String>> {
    let policies = Api::<NetworkPolicy>::all(client.clone());
    let found = policies.list_metadata(&ListParams::default().limit(1)).await?;
    Ok(found.items.first().map(|policy| format!("{}/{}", policy.namespace().unwrap_or_default(), policy.name_any())))
}

fn note(policy: &str) -> String {
    format!(
        "NetworkPolicy objects such as {policy} have no effect: Weft enforces none. Run an engine beside it and name it in the \
         chart's value networkPolicyEngine, which ends this, or delete them"
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::json;

    use super::*;
    use crate::kubernetes::fake::FakeApi;

    #[tokio::test]
    async fn a_policy_is_found_and_named() {
        let api = FakeApi::default();
        assert_eq!(first(&api.client()).await.expect("an answer"), None);
        let metadata = json!({ "namespace": "shop", "name": "deny" });
        let policy = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata });
        api.put("/apis/networking.k8s.io/v1/networkpolicies/deny", policy);
        let found = first(&api.client()).await.expect("an answer").expect("it is there");
        assert!(note(&found).contains("shop/deny"), "{found}");
    }
}
