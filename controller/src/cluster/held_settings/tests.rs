//! Old agents and new settings, over terms.

use std::sync::Arc;

use weft_core::{membership::More, settings::GENERATION, standing::Reason};

use crate::{
    cluster::{
        Cluster, ConnectAsk, Rules, Session, start,
        tests::{FirstSecond, connect, name, rules, token},
    },
    metrics::Metrics,
    store::MemoryStore,
};

/// A setting that agents of version 0.1 do not know.
fn wanted() -> Rules {
    let mut rules = rules();
    rules.settings.more = More::new([8, 1]);
    rules
}

async fn term(store: &MemoryStore, rules: Rules) -> Cluster {
    let metrics = Arc::new(Metrics::default());
    start(Arc::new(store.clone()), rules, metrics, Arc::new(FirstSecond))
        .await
        .expect("no setting keeps it from starting")
        .0
}

fn agent(node: &str, last: u8, generation: u32) -> ConnectAsk {
    let mut ask = connect(node, 1, last);
    ask.facts.as_mut().expect("facts").generation = generation;
    ask
}

/// Two members of version 0.1, and the settings that it knows.
async fn old_cluster(store: &MemoryStore) -> Vec<Session> {
    let cluster = term(store, rules()).await;
    let mut sessions = Vec::new();
    for (node, last) in [("n1", 1), ("n2", 2)] {
        cluster.join(token(&cluster, node).await).await.expect("a good token");
        sessions.push(cluster.connect(agent(node, last, 0)).await.expect("a member"));
    }
    cluster.stop().await;
    sessions
}

async fn awaited_by(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status().await.expect("it runs");
    status.awaited_agents.iter().map(ToString::to_string).collect()
}

async fn announces(cluster: &Cluster, more: &[u8]) {
    let mut published = cluster.fanout().subscribe();
    while cluster.fanout().settings().more.octets() != more {
        published.changed().await.expect("it runs");
    }
}

#[tokio::test]
async fn a_setting_waits_for_the_last_agent_and_status_names_who_is_too_old() {
    let store = MemoryStore::new();
    drop(old_cluster(&store).await);
    let cluster = term(&store, wanted()).await;
    // Nobody is connected: who was a member of version 0.1 counts all the same.
    assert_eq!(awaited_by(&cluster).await, ["n1", "n2"]);
    assert!(cluster.fanout().settings().more.is_empty(), "agents of 0.1 are told what they cannot follow");
    let _first = cluster.connect(agent("n1", 1, GENERATION)).await.expect("upgraded");
    assert_eq!(awaited_by(&cluster).await, ["n2"]);
    let _second = cluster.connect(agent("n2", 2, GENERATION)).await.expect("upgraded");
    announces(&cluster, &[8, 1]).await;
    assert!(awaited_by(&cluster).await.is_empty());
}

#[tokio::test]
async fn what_was_announced_stays_and_who_is_downgraded_is_shown() {
    let store = MemoryStore::new();
    drop(old_cluster(&store).await);
    let cluster = term(&store, wanted()).await;
    let mut sessions = Vec::new();
    for (node, last) in [("n1", 1), ("n2", 2)] {
        sessions.push(cluster.connect(agent(node, last, GENERATION)).await.expect("upgraded"));
    }
    announces(&cluster, &[8, 1]).await;
    cluster.stop().await;

    let cluster = term(&store, wanted()).await;
    let session = cluster.connect(agent("n1", 1, 0)).await.expect("downgraded");
    let applied = Some(cluster.fanout().revision());
    let report = crate::cluster::Report { applied, ..Default::default() };
    cluster.report(name("n1"), session.id, report, [127, 0, 0, 1].into()).await;
    assert!(awaited_by(&cluster).await.is_empty(), "one downgraded agent takes a setting from all");
    assert_eq!(cluster.fanout().settings().more.octets(), [8, 1]);
    let peers = cluster.peers().await.expect("it runs");
    let row = peers.iter().find(|peer| peer.node.as_str() == "n1").expect("a member");
    assert_eq!(row.reason, Some(Reason::NeedsNewerAgent));
    assert!(row.message.contains("upgrade it"), "{}", row.message);
}

#[tokio::test]
async fn a_dead_or_hostile_old_member_has_no_veto() {
    let store = MemoryStore::new();
    drop(old_cluster(&store).await);
    let forced = Rules { force_settings: true, ..wanted() };
    let cluster = term(&store, forced).await;
    assert_eq!(cluster.fanout().settings().more.octets(), [8, 1]);
    cluster.stop().await;
    // Without the option the next time: it was announced, and stays.
    let cluster = term(&store, wanted()).await;
    assert_eq!(cluster.fanout().settings().more.octets(), [8, 1]);
    cluster.stop().await;
    // What every agent can follow waits for nobody.
    let cluster = term(&store, rules()).await;
    assert!(cluster.fanout().settings().more.is_empty());
}
