//! Law 4, persist then announce, with a store that fails.

use std::time::Duration;

use tokio::task::JoinHandle;
use weft_core::{alloc::Pool, encap::Encapsulation, types::PerFamily};

use super::*;
use crate::{
    clock::{self, Clock},
    metrics::Metrics,
    store::{Failure, MemoryStore, Store as _, Write},
};

/// Lives are numbered from Unix time on: in the first second of it a name's first life is 1.
#[derive(Debug)]
pub(super) struct FirstSecond;

impl Clock for FirstSecond {
    fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    fn unix(&self) -> UnixMs {
        UnixMs(0)
    }
}

pub(super) fn rules() -> Rules {
    let cidr = "10.244.0.0/29".parse().expect("a CIDR");
    let settings = Settings {
        pools: vec![cidr],
        mode: weft_core::settings::Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan {
            vni: weft_core::types::Vni::new(87).expect("in range"),
            port: 4789,
            outer: weft_core::types::Family::V4,
        },
        more: Default::default(),
    };
    Rules {
        mtu: None,
        underlay_networks: Vec::new(),
        settings,
        pools: vec![Pool::new(cidr, 30).expect("a pool").into()],
        admission: AdmissionRule::Tokens,
        acknowledge_timeout: Duration::from_secs(30),
        reconnect_grace: Duration::ZERO,
        lives_kept: Duration::from_secs(86_400),
        force_settings: false,
        coalesce: Duration::ZERO,
    }
}

pub(crate) async fn cluster(store: &MemoryStore) -> (Cluster, JoinHandle<Result<(), StoreError>>) {
    start(Arc::new(store.clone()), rules(), Arc::new(Metrics::default()), Arc::new(FirstSecond))
        .await
        .expect("a sound store")
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

pub(crate) async fn token(cluster: &Cluster, node: &str) -> JoinAsk {
    let token = JoinToken::generate([0; 32]).expect("random numbers");
    let (id, secret_hash, node) = (token.id, token.secret_hash(), name(node));
    let expires_unix = clock::unix_seconds() + 1000;
    let record = TokenRecord { id, secret_hash, node: node.clone(), expires_unix, bound: None };
    cluster.add_token(record).await.expect("the store is well");
    JoinAsk { node, token, key_hash: [1; 32] }
}

fn again(ask: &JoinAsk) -> JoinAsk {
    JoinAsk { node: ask.node.clone(), token: ask.token.clone(), key_hash: ask.key_hash }
}

pub(crate) fn connect(node: &str, incarnation: u64, last: u8) -> ConnectAsk {
    let v4 = format!("192.0.2.{last}/24").parse().expect("an address");
    let facts = Facts {
        underlay: PerFamily { v4: Some(v4), v6: None },
        underlay_mtu: 1500,
        gateways: Vec::new(),
        agent_version: String::new(),
        generation: 0,
    };
    let identity = NodeIdentity { name: name(node), incarnation, ends_unix: i64::MAX };
    ConnectAsk { identity, source: [192, 0, 2, last].into(), own: [192, 0, 2, 254].into(), facts: Some(facts) }
}

#[tokio::test]
async fn what_the_store_refuses_never_happened() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store).await;
    let ask = token(&cluster, "n1").await;
    store.fail_next_with(Failure::Refused, |write| matches!(write, Write::Node(_)));
    let refused = cluster.join(again(&ask)).await.expect_err("the disk is full");
    assert!(matches!(&refused, Refusal::Store(detail) if detail.contains("disk")), "{refused}");
    assert!(cluster.peers().await.expect("it runs").is_empty(), "a node that is not stored is listed");
    assert_eq!(cluster.join(ask).await, Ok(1), "the token was used up");

    let before = cluster.fanout().revision();
    store.fail_next_with(Failure::Refused, |write| matches!(write, Write::Node(_)));
    cluster.connect(connect("n1", 1, 1)).await.expect_err("the disk is full");
    assert_eq!(cluster.fanout().revision(), before, "facts that are not stored were announced");
    assert_eq!(cluster.status().await.expect("it runs").connected, 0);
    cluster.connect(connect("n1", 1, 1)).await.expect("the disk is well again");
    assert_eq!(cluster.fanout().revision().sequence, before.sequence + 1);
}

#[tokio::test]
async fn what_was_stored_without_a_confirmation_did_happen() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store).await;
    let ask = token(&cluster, "n1").await;
    store.fail_next_with(Failure::Unconfirmed, |write| matches!(write, Write::Node(_)));
    cluster.join(again(&ask)).await.expect_err("no confirmation");
    // It is a member with a CIDR of its own, and its retry gets the very same life.
    assert_eq!(cluster.status().await.expect("it runs").pools[0].used, 1);
    assert_eq!(cluster.join(ask).await, Ok(1));
    assert_eq!(cluster.status().await.expect("it runs").pools[0].used, 1);
}

#[tokio::test]
async fn a_deletion_without_a_confirmation_ends_the_stream_and_keeps_the_quarantine() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store).await;
    for (node, last) in [("n1", 1), ("n2", 2)] {
        let ask = token(&cluster, node).await;
        cluster.join(ask).await.expect("a good token");
        let session = cluster.connect(connect(node, 1, last)).await.expect("a member");
        if node == "n2" {
            store.fail_next_with(Failure::Unconfirmed, |write| matches!(write, Write::RemoveNode(_)));
            cluster.delete_node(name("n2")).await.expect_err("no confirmation");
            assert!(matches!(session.closed.await, Ok(Refusal::UnknownNode { .. })), "its stream goes on");
        }
    }
    assert_eq!(cluster.fanout().names(), [name("n1")]);
    // n1 has not acknowledged the departure, which it was told of.
    let status = cluster.status().await.expect("it runs");
    assert_eq!((status.pools[0].used, status.pools[0].quarantined), (1, 1));
    let refused = cluster.join(token(&cluster, "n3").await).await;
    assert!(matches!(refused, Err(Refusal::PoolsExhausted { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_deletion_that_the_store_refuses_leaves_a_node_what_it_proved() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store).await;
    for node in ["n1", "n2"] {
        cluster.join(token(&cluster, node).await).await.expect("a good token");
    }
    let _session = cluster.connect(connect("n1", 1, 1)).await.expect("a member");
    store.fail_next_with(Failure::Refused, |write| matches!(write, Write::RemoveNode(_)));
    cluster.delete_node(name("n1")).await.expect_err("the disk is full");
    let refused = cluster.connect(connect("n2", 1, 1)).await.expect_err("it speaks from another's address");
    assert!(matches!(refused, Refusal::AddressTaken { .. }), "{refused}");
    // Once the store knows of the end, nothing is left of it.
    cluster.delete_node(name("n1")).await.expect("the disk is well again");
    cluster.connect(connect("n2", 1, 1)).await.expect("nobody has it");
}

#[tokio::test]
async fn a_store_that_is_gone_ends_the_term() {
    for failure in [Failure::CrashBefore, Failure::CrashAfter] {
        let store = MemoryStore::new();
        let (cluster, task) = cluster(&store).await;
        let before = cluster.fanout().revision();
        let ask = token(&cluster, "n1").await;
        store.fail_next_with(failure, |write| matches!(write, Write::Node(_)));
        cluster.join(again(&ask)).await.expect_err("the store is gone");
        task.await.expect("no panic").expect_err("it cannot know what is true any more");
        assert!(!cluster.is_alive());

        // The next term goes on from whatever was stored, and the retry of the join succeeds either way.
        store.reopen();
        let (cluster, _task) = self::cluster(&store).await;
        assert!(cluster.fanout().revision() > before, "a term repeated");
        assert_eq!(cluster.join(ask).await, Ok(1), "{failure:?}");
    }
}

/// Stands where it was set, in Unix time.
#[derive(Debug, Default)]
struct SetClock(std::sync::atomic::AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> tokio::time::Instant {
        tokio::time::Instant::now()
    }

    fn unix(&self) -> UnixMs {
        UnixMs(1000 * self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn a_used_token_with_its_key_is_not_worth_a_certificate_for_ever() {
    let clock = Arc::new(SetClock::default());
    let clock_of_the_cluster: Arc<dyn Clock> = Arc::clone(&clock) as _;
    let store = Arc::new(MemoryStore::new());
    let (cluster, _task) = start(store, rules(), Arc::default(), clock_of_the_cluster).await.expect("a sound store");
    let (used, unused) = (token(&cluster, "n1").await, token(&cluster, "n2").await);
    cluster.join(again(&used)).await.expect("a good token");
    let kept = rules().kept_seconds();
    clock.0.store(clock::unix_seconds() + 900 + kept, Ordering::Relaxed);
    cluster.join(again(&used)).await.expect("the answer may have got lost");
    clock.0.store(clock::unix_seconds() + 1100 + kept, Ordering::Relaxed);
    let refused = cluster.join(again(&used)).await;
    assert!(matches!(refused, Err(Refusal::TokenUnknown { .. })), "an old disk got a certificate: {refused:?}");
    let refused = cluster.join(unused).await;
    assert!(matches!(refused, Err(Refusal::TokenExpired { .. })), "its operator is told something else: {refused:?}");
}

#[tokio::test]
async fn joins_that_wait_together_are_one_commit() {
    let store = MemoryStore::new();
    let mut rules = rules();
    let cidr = "10.0.0.0/8".parse().expect("a CIDR");
    rules.pools = vec![Pool::new(cidr, 24).expect("a pool").into()];
    let (cluster, _task) =
        start(Arc::new(store.clone()), rules, Arc::default(), Arc::new(FirstSecond)).await.expect("a sound store");
    let mut asks = Vec::new();
    for n in 0..50 {
        asks.push(token(&cluster, &format!("n{n}")).await);
    }
    let before = store.commits();
    let joined = futures::future::join_all(asks.into_iter().map(|ask| cluster.join(ask))).await;
    assert!(joined.iter().all(|joined| *joined == Ok(1)), "{joined:?}");
    assert!(store.commits() - before < 50, "each of 50 joins waited for the disk by itself");
}

// Their acknowledgements wait in the queue while the disk makes everybody wait.
#[tokio::test(start_paused = true)]
async fn a_store_that_stalls_disconnects_nobody_who_has_acknowledged() {
    let limit = rules().acknowledge_timeout;
    // Which of the two the actor turns to first, queue or clock, is a toss.
    for _ in 0..8 {
        let store = MemoryStore::new();
        let (cluster, _task) = cluster(&store).await;
        let mut sessions = Vec::new();
        for (node, last) in [("n1", 1), ("n2", 2)] {
            cluster.join(token(&cluster, node).await).await.expect("a good token");
            sessions.push((node, cluster.connect(connect(node, 1, last)).await.expect("a member")));
        }
        store.stall_next(limit + Duration::from_secs(5));
        let acknowledged = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let report = Report { applied: Some(cluster.fanout().revision()), ..Report::default() };
            cluster.report(name("n1"), sessions[0].1.id, report, [127, 0, 0, 1].into()).await;
        };
        tokio::join!(token(&cluster, "n3"), acknowledged);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.status().await.expect("it runs").connected, 2, "somebody was disconnected");
        // Who says nothing is disconnected all the same, after that time of a controller that listens.
        tokio::time::sleep(limit + Duration::from_secs(1)).await;
        assert_eq!(cluster.status().await.expect("it runs").connected, 1, "n2 has acknowledged nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_changes_its_facts_all_the_time_is_told_of_now_and_then_and_the_newest_counts() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store).await;
    for node in ["n1", "n2"] {
        cluster.join(token(&cluster, node).await).await.expect("a good token");
    }
    let mut session = cluster.connect(connect("n1", 1, 1)).await.expect("a member");
    let begun = cluster.status().await.expect("it runs").revision.sequence;
    for last in 10..60 {
        let facts = connect("n1", 1, last).facts;
        // On new streams as well: they are as easily made.
        if last % 7 == 0 {
            session = cluster.connect(connect("n1", 1, last)).await.expect("a member");
        }
        cluster.report(name("n1"), session.id, Report { facts, ..Report::default() }, [127, 0, 0, 1].into()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let announced = cluster.status().await.expect("it runs").revision.sequence - begun;
    assert!(announced <= 6, "{announced} revisions in a second");
    cluster.connect(connect("n2", 1, 200)).await.expect("another node waits for nobody");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let peers = cluster.peers().await.expect("it runs");
    let addresses: Vec<_> = peers.iter().map(|peer| peer.underlay.v4.map(|at| at.address())).collect();
    let expected = [[192, 0, 2, 59], [192, 0, 2, 200]].map(|octets| Some(octets.into()));
    assert_eq!(addresses, expected, "the newest counts, and everybody's own");
}

// An API server that hiccups, or another node's record that cannot be written.
#[tokio::test(start_paused = true)]
async fn facts_that_the_store_did_not_take_are_taken_later_without_being_told_again() {
    let store = MemoryStore::new();
    let (cluster, _task) = cluster(&store).await;
    cluster.join(token(&cluster, "n1").await).await.expect("a good token");
    let session = cluster.connect(connect("n1", 1, 1)).await.expect("a member");
    for failure in [Failure::Refused, Failure::Unconfirmed] {
        let last = if failure == Failure::Refused { 7 } else { 8 };
        let facts = connect("n1", 1, last).facts;
        store.fail_next_with(failure, |write| matches!(write, Write::Node(_)));
        let source = [192, 0, 2, last].into();
        cluster.report(name("n1"), session.id, Report { facts, ..Report::default() }, source).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let peers = cluster.peers().await.expect("it runs");
        let announced = peers[0].underlay.v4.map(|at| at.address());
        assert_eq!(announced, Some([192, 0, 2, last].into()), "the old address is announced");
        let stored = store.load().await.expect("readable");
        assert!(stored.nodes[0].underlay().v4.is_some_and(|at| at.address() == IpAddr::from([192, 0, 2, last])));
    }
    assert_eq!(cluster.status().await.expect("it runs").connected, 1, "its stream goes on");
}
