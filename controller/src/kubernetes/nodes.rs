//! The Node objects.
//!
//! Owns the one watch of them that a replica has.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, Store},
        watcher,
    },
};

/// A store of all Nodes, and what keeps it as they are for as long as it is polled.
pub(super) fn watch(client: Client) -> (Store<Node>, impl Future<Output = ()> + Send) {
    let (store, writer) = reflector::store();
    let nodes = watcher(Api::<Node>::all(client), watcher::Config::default());
    let events = reflector::reflector(writer, nodes.default_backoff());
    let watch = events.for_each(|event| {
        if let Err(error) = event {
            tracing::warn!("Node objects cannot be watched: {}", super::chain(&error));
        }
        std::future::ready(())
    });
    (store, watch)
}
