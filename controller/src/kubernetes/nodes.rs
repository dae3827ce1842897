//! The Node objects: who is a member follows from them.
//!
//! Owns the one watch of them that a replica has, and while this replica leads, the way from a Node to a membership and
//! back: taking in what is there, ending what is gone, writing pod CIDRs into Nodes that have none. Level-triggered:
//! whatever the watch shows, all Nodes are compared with what was seen of them last. Must never take a Node for gone, or
//! for another one of its name, on the word of the watch alone, which may lag behind what an earlier leader saw; nor
//! write into a Node that has pod CIDRs.

mod handled;
mod look;
mod pools;
mod seen;
mod write;

use std::time::Duration;

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
use tokio::sync::watch;

use self::look::Look;
pub(super) use self::seen::has_agent;
use super::Leader;

/// Changes within this time are looked at together.
const GATHER: Duration = Duration::from_millis(50);
/// How often everything that waits for something is tried again, without a sign that it would succeed.
const AGAIN: Duration = Duration::from_secs(30);

/// All Nodes, and when they changed. Clones share both.
#[derive(Clone)]
pub(super) struct Watched {
    /// All of them, once it is ready.
    pub(super) store: Store<Node>,
    changes: watch::Receiver<u64>,
}

/// All Nodes, and what keeps them as they are for as long as it is polled.
pub(super) fn watch(client: Client) -> (Watched, impl Future<Output = ()> + Send) {
    let (store, writer) = reflector::store();
    let (version, changes) = watch::channel(0_u64);
    // What nobody here reads of a Node is most of it.
    let slim = |node: &mut Node| {
        node.metadata.managed_fields = None;
        if let Some(status) = &mut node.status {
            (status.images, status.volumes_attached, status.volumes_in_use) = (None, None, None);
        }
    };
    let nodes = watcher(Api::<Node>::all(client), watcher::Config::default()).modify(slim);
    let events = reflector::reflector(writer, nodes.default_backoff());
    let watch = events.for_each(move |event| {
        match event {
            Ok(_) => version.send_modify(|version| *version += 1),
            Err(error) => tracing::warn!("Node objects cannot be watched: {}", super::chain(&error)),
        }
        std::future::ready(())
    });
    (Watched { store, changes }, watch)
}

/// Follows the Nodes until the cluster stops.
pub(super) async fn run(leader: Leader) -> anyhow::Result<()> {
    let cluster = leader.cluster.clone();
    match follow(leader).await {
        // Whatever it was doing, it has to end.
        Err(_) if !cluster.is_alive() => Ok(()),
        ended => ended,
    }
}

async fn follow(leader: Leader) -> anyhow::Result<()> {
    pools::check(&leader).await?;
    let mut changes = leader.watched.changes.clone();
    let mut freed = leader.cluster.freed();
    let mut complaints = leader.cluster.complaints();
    let mut look = Look::new(leader);
    if let Err(error) = look.first().await {
        // A write that an earlier leader had under way may have come between; the store was read again since.
        tracing::warn!("the first look at the Nodes is tried again: {error:#}");
        look.first().await?;
    }
    loop {
        let due = look.due();
        tokio::select! {
            changed = changes.changed() => changed.map_err(|_| anyhow::anyhow!("the watch of Node objects has ended"))?,
            // The cluster has stopped, and so does this.
            changed = freed.changed() => match changed {
                Ok(()) => look.try_waiting_again().await?,
                Err(_) => return Ok(()),
            },
            told = complaints.recv() => {
                if let Ok((name, refusal)) = told {
                    look.complain(&name, &refusal);
                }
                continue;
            }
            () = tokio::time::sleep_until(due) => {}
        }
        tokio::time::sleep(GATHER).await;
        changes.mark_unchanged();
        look.again().await?;
    }
}
