//! Terms: what a restart keeps, and what it costs.

use tonic::Code;
use weft_controller::store::{RedbStore, Store, Write};
use weft_core::{
    encap::Encapsulation,
    types::{Family, Vni},
};

use crate::{
    agent::{Agent, hello},
    harness::Cluster,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_start_begins_a_higher_term_and_an_unchanged_agent_is_current() {
    let mut cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (agent, credentials) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let first = agent.view.revision();
    let open = agent.follow();
    cluster.stop().await;
    let (agent, status) = open.await.expect("no panic");
    assert_eq!(status.code(), Code::Unavailable, "a stopping controller says so: {status}");
    cluster.run().await;

    let mut again = hello("n1", &["192.0.2.1/24"]);
    again.revision = Some(first.into());
    again.digest = agent.view.digests().typed.octets().to_vec();
    let view = agent.view;
    let mut agent = Agent::open(&cluster, &credentials, again).await.expect("a member still");
    agent.view = view;
    agent.step().await.expect("a first message");
    assert_eq!(agent.log, ["current"], "an agent that holds the right membership was sent more");
    let second = agent.view.revision();
    assert!(second.epoch > first.epoch, "{second} does not come after {first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_never_falls_whatever_the_clock_says() {
    let mut cluster = Cluster::prepare(&["10.244.0.0/16=24"], |_| {});
    // As if an earlier term had begun while the clock was far ahead.
    let far = 40_000_000_000;
    let store = RedbStore::open(&cluster.store_path()).expect("a new store");
    store.commit(vec![Write::Epoch(far)]).await.expect("a write");
    drop(store);
    cluster.run().await;
    assert_eq!(cluster.status().await.revision.expect("a revision").epoch, far + 1);
    cluster.restart().await;
    assert_eq!(cluster.status().await.revision.expect("a revision").epoch, far + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_a_term_a_reconnect_costs_the_changes_only() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (agent, credentials) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let view = agent.view.clone();
    drop(agent);
    Agent::join(&cluster, "n2", &["192.0.2.2/24"]).await;
    let mut again = hello("n1", &["192.0.2.1/24"]);
    again.revision = Some(view.revision().into());
    again.digest = view.digests().typed.octets().to_vec();
    let mut agent = Agent::open(&cluster, &credentials, again).await.expect("a member");
    agent.view = view;
    agent.until(|view| view.len() == 2).await;
    assert_eq!(agent.log, ["delta"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_digest_gets_a_snapshot() {
    let cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (agent, credentials) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let mut again = hello("n1", &["192.0.2.1/24"]);
    again.revision = Some(agent.view.revision().into());
    again.digest = vec![0; 16];
    let mut agent = Agent::open(&cluster, &credentials, again).await.expect("a member");
    agent.until(|view| view.len() == 1).await;
    assert_eq!(agent.log.last(), Some(&"snapshot"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_settings_reach_everybody_and_pools_must_cover_the_nodes() {
    let mut cluster = Cluster::start(&["10.244.0.0/16=24"]).await;
    let (agent, credentials) = Agent::join(&cluster, "n1", &["192.0.2.1/24"]).await;
    let digest = agent.view.digests();
    drop(agent);
    cluster.stop().await;
    let (vni, outer) = (Vni::new(87).expect("in range"), Family::V4);
    cluster.config.settings.encapsulation = Encapsulation::Vxlan { vni, port: 8472, outer };
    cluster.run().await;
    let mut again = hello("n1", &["192.0.2.1/24"]);
    again.digest = digest.typed.octets().to_vec();
    let mut agent = Agent::open(&cluster, &credentials, again).await.expect("a member");
    agent.until(|view| view.len() == 1).await;
    assert_eq!(agent.view.snapshot().expect("a membership").settings.encapsulation.port(), 8472);

    cluster.stop().await;
    cluster.config.pools = vec!["10.1.0.0/16=24".parse().expect("a pool")];
    let error = weft_controller::start(cluster.config.clone()).await.expect_err("n1 is outside the pools");
    assert!(format!("{error:#}").contains("n1") && format!("{error:#}").contains("10.244.0.0/24"), "{error:#}");
}
