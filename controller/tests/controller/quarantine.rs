//! Law 8: a departed node's CIDR is handed out again only after everybody has let it go.

use tonic::Code;

use crate::{
    agent::Agent,
    harness::{Cluster, new_key},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cidr_comes_back_only_after_every_connected_agent_has_acknowledged() {
    // Two CIDRs: one for the watcher, one that changes hands.
    let cluster = Cluster::start(&["10.244.0.0/29=30"]).await;
    let (mut watcher, _) = Agent::join(&cluster, "watcher", &["192.0.2.1/24"]).await;
    let (leaver, _) = Agent::join(&cluster, "leaver", &["192.0.2.2/24"]).await;
    let cidr = leaver.cidr("leaver");
    watcher.until(|view| view.len() == 2).await;
    watcher.acknowledges = false;
    cluster.delete("leaver").await.expect("a member");
    watcher.until(|view| view.len() == 1).await;

    // Told, but not acknowledged: its kernel may still route there.
    let (token, key) = (cluster.token("heir").await, new_key());
    for _ in 0..3 {
        let refused = cluster.join_with("heir", &token, &key).await.err().expect("the CIDR is in quarantine");
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }
    let pool = cluster.status().await.pools.remove(0);
    assert_eq!((pool.used, pool.quarantined, pool.total), (1, 1, 2));

    watcher.acknowledge().await;
    cluster.pool_until(|pool| pool.quarantined == 0).await;
    let heir = cluster.join_with("heir", &token, &key).await.expect("it is free now");
    let mut heir =
        Agent::open(&cluster, &heir, crate::agent::hello("heir", &["192.0.2.3/24"])).await.expect("a stream");
    heir.until(|view| view.len() == 2).await;
    assert_eq!(heir.cidr("heir"), cidr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_acknowledge_in_time_is_disconnected_and_does_not_count() {
    let cluster = Cluster::start_with(&["10.244.0.0/29=30"], |options| {
        options.acknowledge_timeout = Some("1s".to_owned());
    })
    .await;
    let (mut mute, _) = Agent::join(&cluster, "mute", &["192.0.2.1/24"]).await;
    let (leaver, _) = Agent::join(&cluster, "leaver", &["192.0.2.2/24"]).await;
    mute.until(|view| view.len() == 2).await;
    mute.acknowledges = false;
    cluster.delete("leaver").await.expect("a member");
    drop(leaver);
    let status = mute.end().await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    cluster.pool_until(|pool| pool.quarantined == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quarantine_outlives_the_controller_until_the_grace_is_over() {
    let mut cluster = Cluster::start(&["10.244.0.0/29=30"]).await;
    let (mut watcher, _) = Agent::join(&cluster, "watcher", &["192.0.2.1/24"]).await;
    let (leaver, _) = Agent::join(&cluster, "leaver", &["192.0.2.2/24"]).await;
    watcher.until(|view| view.len() == 2).await;
    watcher.acknowledges = false;
    cluster.delete("leaver").await.expect("a member");
    drop(leaver);
    cluster.stop().await;
    drop(watcher);

    // Nobody is connected now, but those who are may be on their way.
    cluster.config.reconnect_grace = std::time::Duration::from_secs(3600);
    cluster.run().await;
    let (token, key) = (cluster.token("heir").await, new_key());
    let refused = cluster.join_with("heir", &token, &key).await.err().expect("the CIDR is in quarantine");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(cluster.status().await.pools[0].quarantined, 1);

    cluster.stop().await;
    cluster.config.reconnect_grace = std::time::Duration::ZERO;
    cluster.run().await;
    cluster.pool_until(|pool| pool.quarantined == 0).await;
    cluster.join_with("heir", &token, &key).await.expect("it is free now");
}
