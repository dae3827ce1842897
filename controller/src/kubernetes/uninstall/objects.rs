//! What Weft wrote into the API of the cluster, removed.
//!
//! Owns the order: first what others act on, the Nodes' condition, then the objects that would make it again. Must never
//! remove what the chart made: that goes with it.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams},
    runtime::reflector::Store,
};
use weft_api::{PodCidrClaim, Vtep, Waiting};

use super::super::conditions;

/// Requests under way at a time.
const PARALLEL: usize = 16;
/// Objects in one answer.
const PAGE: u32 = 500;

/// Removes all of it; returns what is still there, and why.
pub(super) async fn remove_all(client: &Client, nodes: &Store<Node>) -> Vec<Waiting> {
    let conditions = conditions::remove_all(client, nodes).await;
    if !conditions.is_empty() {
        return conditions.into_iter().map(|why| Waiting { node: "API".to_owned(), why }).collect();
    }
    let mut left = Vec::new();
    for kind in [ApiResource::erase::<Vtep>(&()), ApiResource::erase::<PodCidrClaim>(&())] {
        left.extend(remove_kind(client, &kind).await);
    }
    left
}

async fn remove_kind(client: &Client, kind: &ApiResource) -> Vec<Waiting> {
    let waiting = |why: String| Waiting { node: "API".to_owned(), why };
    let api = Api::<DynamicObject>::all_with(client.clone(), kind);
    let names = match names(&api).await {
        Ok(names) => names,
        Err(error) => return vec![waiting(format!("{} cannot be listed: {error}", kind.plural))],
    };
    let deletions = names.into_iter().map(|name| {
        let api = api.clone();
        async move {
            match api.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => None,
                Err(error) => Some(format!("{} {name} cannot be deleted: {error}", kind.kind)),
                Ok(_) => None,
            }
        }
    });
    let left = futures::stream::iter(deletions).buffer_unordered(PARALLEL).filter_map(|why| async { why });
    left.map(waiting).collect().await
}

async fn names(api: &Api<DynamicObject>) -> kube::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list_metadata(&params).await?;
        names.extend(page.items.into_iter().filter_map(|object| object.metadata.name));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(names),
        }
    }
}
