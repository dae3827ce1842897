//! Nodes through the whole cluster, with a store that fails.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use weft_core::{
    encap::Encapsulation,
    settings::Settings,
    standing::Facts,
    types::{Family, Vni},
};

use super::*;
use crate::{
    clock::SystemClock,
    cluster::{AdmissionRule, ConnectAsk, NodeIdentity, Report, Rules, start},
    config::NodeCidrs,
    metrics::Metrics,
    store::{Failure, MemoryStore, Store as _, StoreError, Write},
};

fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

fn rules(who: NodeCidrs) -> Rules {
    let pool: weft_core::alloc::PoolRule = "10.244.0.0/22=24".parse().expect("a pool");
    let settings = Settings {
        pools: vec![pool.pool.cidr()],
        mode: weft_core::settings::Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("in range"), port: 4789, outer: Family::V4 },
        more: Default::default(),
    };
    Rules {
        mtu: None,
        underlay_networks: Vec::new(),
        settings,
        pools: vec![pool],
        admission: AdmissionRule::Nodes(who),
        acknowledge_timeout: Duration::from_secs(30),
        reconnect_grace: Duration::ZERO,
        lives_kept: Duration::from_secs(86_400),
        force_settings: false,
        coalesce: Duration::ZERO,
    }
}

async fn cluster(store: &MemoryStore, who: NodeCidrs) -> (Cluster, JoinHandle<Result<(), StoreError>>) {
    let metrics = Arc::new(Metrics::default());
    start(Arc::new(store.clone()), rules(who), metrics, Arc::new(SystemClock)).await.expect("a sound store")
}

fn node(text: &str, uid: &str) -> NodeSeen {
    NodeSeen {
        name: name(text),
        uid: uid.to_owned(),
        created_unix: 1000,
        pod_cidrs: PerFamily::default(),
        cidrs_are_ours: false,
        addresses: vec!["192.0.2.1".parse().expect("an address")],
        labels: BTreeMap::new(),
    }
}

fn given(text: &str, third: u8) -> NodeSeen {
    let v4 = format!("10.244.{third}.0/24").parse().ok();
    NodeSeen { pod_cidrs: PerFamily { v4, v6: None }, ..node(text, text) }
}

fn all(seen: &[NodeSeen]) -> AllNodes {
    AllNodes { seen: seen.to_vec(), unreadable: BTreeSet::new() }
}

async fn connect(cluster: &Cluster, node: &str, address: &str) -> Result<super::super::Session, Refusal> {
    let incarnation = cluster.identify(name(node), None).await?;
    let underlay = |text: &str| text.parse().ok();
    let facts = Facts {
        underlay: PerFamily { v4: underlay(address), v6: underlay("2001:db8::1/64") },
        underlay_mtu: 1500,
        gateways: Vec::new(),
        agent_version: String::new(),
        generation: 0,
    };
    let identity = NodeIdentity { name: name(node), incarnation, ends_unix: i64::MAX };
    cluster
        .connect(ConnectAsk { identity, source: [192, 0, 2, 1].into(), own: [192, 0, 2, 9].into(), facts: Some(facts) })
        .await
}

#[tokio::test]
async fn all_nodes_together_are_taken_in_and_what_is_gone_departs() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store, NodeCidrs::Auto).await;
    let answers = cluster.sync_nodes(all(&[node("a", "1"), node("b", "2")])).await.expect("the store is well");
    assert!(answers.iter().all(|(_, answer)| answer.is_ok_and_ours()), "{answers:?}");
    let commits = store.commits();
    cluster.sync_nodes(all(&[node("a", "1"), node("b", "2")])).await.expect("the store is well");
    assert_eq!(store.commits(), commits, "what is known was written again");

    // Of b nothing can be read now; that is not its end.
    let unreadable = AllNodes { seen: vec![node("a", "1")], unreadable: [name("b")].into() };
    cluster.sync_nodes(unreadable).await.expect("the store is well");
    assert_eq!(cluster.known_nodes().await.expect("it runs").len(), 2);
    cluster.sync_nodes(all(&[node("b", "2")])).await.expect("the store is well");
    assert_eq!(cluster.known_nodes().await.expect("it runs").keys().collect::<Vec<_>>(), [&name("b")]);
}

trait IsOurs {
    fn is_ok_and_ours(&self) -> bool;
}

impl IsOurs for Result<Admitted, Refusal> {
    fn is_ok_and_ours(&self) -> bool {
        self.as_ref().is_ok_and(|admitted| admitted.is_ours_to_write && !admitted.pod_cidrs.is_empty())
    }
}

#[tokio::test]
async fn who_allocates_is_found_out_from_all_nodes_and_from_one_that_comes_later() {
    let (cluster, _task) = cluster(&MemoryStore::new(), NodeCidrs::Auto).await;
    let refused = cluster.admit(node("early", "0")).await;
    assert!(refused.is_ok_and_ours(), "{refused:?}");
    let answers = cluster.sync_nodes(all(&[node("early", "0"), given("a", 3)])).await.expect("the store is well");
    assert_eq!(cluster.status().await.expect("it runs").allocates, Some(NodeCidrs::KubeControllerManager));
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
    assert!(matches!(cluster.admit(node("b", "2")).await, Err(Refusal::CidrsAwaited { .. })));
    // Two Nodes exchange their CIDRs by being created again.
    let swapped =
        [NodeSeen { uid: "x".to_owned(), ..given("a", 2) }, NodeSeen { uid: "y".to_owned(), ..given("b", 3) }];
    let answers = cluster.sync_nodes(all(&swapped)).await.expect("the store is well");
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
}

fn with_cidr(text: &str, cidr: &str, cidrs_are_ours: bool) -> NodeSeen {
    let pod_cidrs = PerFamily { v4: cidr.parse().ok(), v6: None };
    NodeSeen { pod_cidrs, cidrs_are_ours, ..node(text, text) }
}

#[tokio::test]
async fn one_node_of_another_kind_does_not_decide_for_the_cluster() {
    let (cluster, _task) = cluster(&MemoryStore::new(), NodeCidrs::Auto).await;
    let (ours, foreign) = (with_cidr("a", "10.244.1.0/24", true), with_cidr("fake", "10.0.0.0/24", false));
    let answers = cluster.sync_nodes(all(&[ours, foreign, node("new", "1")])).await.expect("the store is well");
    let of = |name: &str| answers.iter().find(|(node, _)| node.as_str() == name).map(|(_, answer)| answer);
    assert!(of("new").is_some_and(IsOurs::is_ok_and_ours), "new nodes get no pod CIDR: {answers:?}");
    assert!(matches!(of("fake"), Some(Err(Refusal::CidrOutsidePools { .. }))), "{answers:?}");
    assert_eq!(cluster.status().await.expect("it runs").allocates, Some(NodeCidrs::Weft));
}

#[tokio::test]
async fn nobody_allocates_while_every_pod_cidr_is_outside_the_pools() {
    let (cluster, _task) = cluster(&MemoryStore::new(), NodeCidrs::Auto).await;
    let mut freed = cluster.freed();
    let foreign = with_cidr("fake", "10.0.0.0/24", false);
    cluster.sync_nodes(all(&[foreign])).await.expect("the store is well");
    let refused = cluster.admit(node("new", "1")).await.expect_err("it is open who allocates");
    assert!(refused.to_string().contains("10.0.0.0/24 of fake"), "{refused}");
    // The Node goes, and with it all that spoke against us.
    freed.mark_unchanged();
    cluster.depart(name("fake")).await.expect("the store is well");
    assert!(freed.has_changed().expect("it runs"), "nobody tries again");
    assert!(cluster.admit(node("new", "1")).await.is_ok_and_ours());
}

#[tokio::test]
async fn a_node_that_registers_again_gets_the_pod_cidr_that_its_pods_have() {
    for (in_one_look, is_free_again) in [(false, false), (false, true), (true, false)] {
        let store = MemoryStore::new();
        let (cluster, _task) = cluster(&store, NodeCidrs::Weft).await;
        let before = cluster.admit(node("a", "1")).await.expect("taken in").pod_cidrs;
        connect(&cluster, "a", "192.0.2.1/24").await.expect("a member");
        // Somebody who has to let go of it first, or has done so already.
        let addresses = vec!["192.0.2.2".parse().expect("an address")];
        let witness = NodeSeen { addresses, ..node("witness", "w") };
        cluster.admit(witness.clone()).await.expect("taken in");
        let session = connect(&cluster, "witness", "192.0.2.2/24").await.expect("a member");
        let again = NodeSeen { created_unix: 2000, ..node("a", "2") };
        if in_one_look {
            cluster.sync_nodes(all(&[again.clone(), witness])).await.expect("the store is well");
        } else {
            cluster.depart(name("a")).await.expect("the store is well");
        }
        if is_free_again {
            let applied = Some(cluster.fanout().revision());
            let mut freed = cluster.freed();
            freed.mark_unchanged();
            let report = Report { applied, ..Report::default() };
            cluster.report(name("witness"), session.id, report, [192, 0, 2, 2].into()).await;
            freed.changed().await.expect("it runs");
        }
        let after = cluster.admit(again).await.expect("taken in").pod_cidrs;
        assert_eq!(after, before, "its pods run on under addresses of nobody");
        let stored = store.load().await.expect("readable");
        assert_eq!((stored.quarantine, stored.nodes[0].pod_cidrs), (vec![], before));
        // Another node gets another one.
        assert_ne!(cluster.admit(node("b", "3")).await.expect("taken in").pod_cidrs, before);
    }
}

#[tokio::test]
async fn a_refused_write_takes_nobody_in() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store, NodeCidrs::Weft).await;
    for failure in [Failure::Refused, Failure::Unconfirmed] {
        store.fail_next_with(failure, |write| matches!(write, Write::Node(_)));
        assert!(matches!(cluster.admit(node("a", "1")).await, Err(Refusal::Store(_))));
        assert!(cluster.admit(node("a", "1")).await.is_ok_and_ours(), "{failure:?}");
        store.fail_next_with(failure, |write| matches!(write, Write::RemoveNode(_)));
        cluster.depart(name("a")).await.expect_err("no confirmation");
        cluster.depart(name("a")).await.expect("the store is well again");
    }
    assert!(cluster.known_nodes().await.expect("it runs").is_empty());
}

#[tokio::test]
async fn a_departed_node_is_remembered_until_its_cidr_is_free() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store, NodeCidrs::Weft).await;
    let mut freed = cluster.freed();
    for (text, address) in [("a", "192.0.2.1/24"), ("b", "192.0.2.2/24")] {
        let addresses = vec![address[..9].parse().expect("an address")];
        cluster.admit(NodeSeen { addresses, ..node(text, text) }).await.expect("taken in");
    }
    let session = connect(&cluster, "a", "192.0.2.1/24").await.expect("a member");
    cluster.depart(name("b")).await.expect("the store is well");
    let stored = store.load().await.expect("readable");
    assert_eq!((stored.lives.len(), stored.quarantine.len()), (1, 1));
    // It waits for a, which was told.
    let applied = Some(cluster.fanout().revision());
    cluster.report(name("a"), session.id, Report { applied, ..Report::default() }, [192, 0, 2, 1].into()).await;
    freed.changed().await.expect("it runs");
    // With the CIDR or in the next moment.
    let forgotten = async {
        while !store.load().await.expect("readable").lives.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.expect("the departed node is never forgotten");
    assert_eq!(store.load().await.expect("readable").quarantine, []);
}

#[tokio::test]
async fn addresses_are_those_of_the_node_object() {
    let (cluster, _task) = cluster(&MemoryStore::new(), NodeCidrs::Weft).await;
    let mut complaints = cluster.complaints();
    assert!(matches!(connect(&cluster, "a", "192.0.2.1/24").await, Err(Refusal::NodeUnseen { .. })));
    cluster.admit(node("a", "1")).await.expect("taken in");
    let refused = connect(&cluster, "a", "192.0.2.9/24").await.expect_err("not its own");
    assert!(matches!(&refused, Refusal::AddressNotOfNode { .. }));
    assert_eq!(complaints.recv().await, Ok((name("a"), refused)));
    let mut session = connect(&cluster, "a", "192.0.2.1/24").await.expect("its own");
    // It moves: that is told, and the stream goes on until its agent says where it is.
    let addresses = vec!["192.0.2.7".parse().expect("an address")];
    cluster.admit(NodeSeen { addresses, ..node("a", "1") }).await.expect("taken in");
    assert!(matches!(complaints.recv().await, Ok((_, Refusal::AddressNotOfNode { .. }))));
    assert!(session.closed.try_recv().is_err(), "its stream was closed");
    // The Node lists no IPv6 address, and outer packets are IPv4: what the agent says of IPv6 is left out.
    assert_eq!(cluster.standings().await.expect("it runs")[0].underlay.v6, None);
}

#[tokio::test]
async fn after_another_start_what_is_known_may_stay_until_the_nodes_are_looked_at() {
    let store = MemoryStore::new();
    let (first, _task) = cluster(&store, NodeCidrs::Weft).await;
    first.admit(node("a", "1")).await.expect("taken in");
    connect(&first, "a", "192.0.2.1/24").await.expect("its own");
    let stored = store.load().await.expect("readable").nodes.remove(0);
    let mut with_v6 = stored.clone();
    with_v6.facts.as_mut().expect("it has reported").underlay.v6 = "2001:db8::1/64".parse().ok();
    store.commit(vec![Write::Node(with_v6)]).await.expect("writable");
    let (second, _task) = cluster(&store, NodeCidrs::Weft).await;
    connect(&second, "a", "192.0.2.1/24").await.expect("what is known already");
    assert!(matches!(connect(&second, "a", "192.0.2.5/24").await, Err(Refusal::NodeUnseen { .. })));
}

#[tokio::test]
async fn there_are_no_tokens_and_no_deletions_apart_from_the_node() {
    let (cluster, _task) = cluster(&MemoryStore::new(), NodeCidrs::Weft).await;
    cluster.admit(node("a", "1")).await.expect("taken in");
    let refused = cluster.delete_node(name("a")).await.expect_err("its Node is there");
    assert!(refused.to_string().contains("kubectl delete node a"), "{refused}");
}

/// A store of which a hand took a member's record away, or spoilt it.
struct Spoilt {
    store: MemoryStore,
    victim: NodeName,
    is_unreadable: bool,
    is_spoilt: std::sync::atomic::AtomicBool,
}

impl crate::store::Store for Spoilt {
    fn load(&self) -> futures::future::BoxFuture<'_, Result<crate::store::Stored, StoreError>> {
        Box::pin(async {
            let mut stored = self.store.load().await?;
            if self.is_spoilt.load(std::sync::atomic::Ordering::SeqCst) {
                let (gone, rest) = stored.nodes.into_iter().partition(|node| node.name == self.victim);
                stored.nodes = rest;
                for node in &gone as &Vec<crate::store::NodeRecord> {
                    let owner = node.name.clone();
                    let held = |cidr: &PodCidr| crate::store::Held { cidr: *cidr, owner: owner.clone() };
                    stored.held.extend(node.pod_cidrs.iter().map(held));
                    stored.unreadable.extend(self.is_unreadable.then(|| owner.clone()));
                }
            }
            Ok(stored)
        })
    }

    fn commit(&self, batch: Vec<Write>) -> futures::future::BoxFuture<'_, Result<(), StoreError>> {
        let is_mended = batch.iter().any(|write| matches!(write, Write::Node(node) if node.name == self.victim));
        Box::pin(async move {
            self.store.commit(batch).await?;
            if is_mended {
                self.is_spoilt.store(false, std::sync::atomic::Ordering::SeqCst);
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_member_whose_record_is_spoilt_by_hand_stays_one_and_is_written_again() {
    for is_unreadable in [false, true] {
        let memory = MemoryStore::new();
        let spoilt = Arc::new(Spoilt {
            store: memory.clone(),
            victim: name("a"),
            is_unreadable,
            is_spoilt: std::sync::atomic::AtomicBool::new(false),
        });
        let (cluster, _task) = start(spoilt.clone(), rules(NodeCidrs::Weft), Arc::default(), Arc::new(SystemClock))
            .await
            .expect("a sound store");
        cluster.admit(node("a", "1")).await.expect("taken in");
        let mut session = connect(&cluster, "a", "192.0.2.1/24").await.expect("a member");
        let before = cluster.fanout().contents();
        spoilt.is_spoilt.store(true, std::sync::atomic::Ordering::SeqCst);
        memory.fail_next_with(Failure::Refused, |write| matches!(write, Write::Node(_)));
        cluster.admit(node("b", "2")).await.expect_err("the store failed, and is read again");
        assert_eq!(cluster.fanout().contents(), before, "a member was taken from the others");
        assert!(session.closed.try_recv().is_err(), "its stream was closed");
        let mended = async {
            while spoilt.is_spoilt.load(std::sync::atomic::Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), mended).await.expect("it is not written again");
    }
}

#[tokio::test]
async fn too_many_for_one_batch_are_left_to_those_that_follow() {
    let (cluster, _task) = cluster(&MemoryStore::new(), NodeCidrs::KubeControllerManager).await;
    let many: Vec<NodeSeen> = (0..400).map(|n| node(&format!("n{n}"), "1")).chain([given("z", 1)]).collect();
    let answers = cluster.sync_nodes(all(&many)).await.expect("the store is well");
    assert!(answers.len() < many.len(), "everybody else waits for {} writes", answers.len());
    assert_eq!(answers[0].0, name("z"), "what is given must come first");
    let again = cluster.sync_nodes(all(&many)).await.expect("the store is well");
    assert_eq!(again.len(), many.len());
}
