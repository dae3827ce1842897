//! What every store must do, asked of each of them.

use weft_controller::store::{
    Binding, Failure, Life, MemoryStore, NodeFacts, NodeRecord, Quarantined, RedbStore, Store, Stored, TokenId,
    TokenRecord, Write,
};
use weft_core::{
    encap::{Encapsulation, Endpoint},
    membership::More,
    settings::{Mode, Settings},
    types::{Family, Mac, PerFamily, UnixMs, Vni},
};

use crate::{agent::name, harness::Dir};

fn node(text: &str, third: u8) -> NodeRecord {
    let cidr = format!("10.244.{third}.0/24").parse().expect("a CIDR");
    NodeRecord {
        name: name(text),
        incarnation: 3,
        pod_cidrs: PerFamily { v4: Some(cidr), v6: Some("fd00:1::/64".parse().expect("a CIDR")) },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0, 0, 0, 0, third]) },
        more: More::new([0x0a, 1, 5]),
        facts: Some(NodeFacts {
            underlay: PerFamily { v4: Some("192.0.2.1/24".parse().expect("an address")), v6: None },
            underlay_mtu: 1500,
            agent_version: "1.2.3".to_owned(),
            generation: 1,
        }),
        joined: UnixMs(1_700_000_000_000),
        node_uid: Some("0f3c".to_owned()),
    }
}

fn token(id: u8, bound: Option<Binding>) -> TokenRecord {
    TokenRecord { id: TokenId([id; 8]), secret_hash: [9; 32], node: name("n1"), expires_unix: 77, bound }
}

fn settings() -> Settings {
    Settings {
        pools: vec!["10.244.0.0/16".parse().expect("a CIDR")],
        mode: Mode::Always,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(5).expect("in range"), port: 4789, outer: Family::V6 },
        more: More::new([8, 1]),
    }
}

async fn contract(store: &dyn Store) {
    assert_eq!(store.load().await.expect("readable"), Stored::default(), "a new store is empty");
    let quarantined = Quarantined { cidr: "10.244.7.0/24".parse().expect("a CIDR"), owner: name("gone") };
    let life = Life { node: name("gone"), incarnation: 4, ended_unix: Some(1_700_000_000) };
    let batch = vec![
        Write::Epoch(12),
        Write::Settings(settings()),
        Write::Node(node("n2", 2)),
        Write::Node(node("n1", 1)),
        Write::Token(token(1, None)),
        Write::Token(token(2, Some(Binding { key_hash: [4; 32], incarnation: 3 }))),
        Write::Quarantine(quarantined.clone()),
        Write::Life(life.clone()),
    ];
    store.commit(batch).await.expect("writable");
    let all = Stored {
        epoch: 12,
        settings: Some(settings()),
        nodes: vec![node("n1", 1), node("n2", 2)],
        tokens: vec![token(1, None), token(2, Some(Binding { key_hash: [4; 32], incarnation: 3 }))],
        quarantine: vec![quarantined.clone()],
        lives: vec![life.clone()],
        ..Stored::default()
    };
    assert_eq!(store.load().await.expect("readable"), all);

    let batch = vec![
        Write::RemoveNode(name("n1")),
        Write::RemoveToken(TokenId([1; 8])),
        Write::RemoveQuarantine(quarantined.cidr),
        Write::RemoveLife(life.node),
        Write::RemoveNode(name("never-there")),
        // The last word about a record counts.
        Write::Epoch(13),
        Write::Epoch(14),
    ];
    store.commit(batch).await.expect("writable");
    let rest = Stored { epoch: 14, settings: Some(settings()), nodes: vec![node("n2", 2)], ..Stored::default() };
    let rest = Stored { tokens: vec![token(2, Some(Binding { key_hash: [4; 32], incarnation: 3 }))], ..rest };
    assert_eq!(store.load().await.expect("readable"), rest);
}

#[tokio::test]
async fn the_redb_store_keeps_the_contract() {
    let dir = Dir::new();
    let path = dir.0.join("weft.redb");
    let store = RedbStore::open(&path).expect("a new store");
    contract(&store).await;
    let before = store.load().await.expect("readable");
    drop(store);
    let again = RedbStore::open(&path).expect("the same store");
    assert_eq!(again.load().await.expect("readable"), before, "something did not survive");
}

#[tokio::test]
async fn the_fake_store_keeps_the_contract() {
    contract(&MemoryStore::new()).await;
}

#[tokio::test]
async fn the_fake_fails_as_it_is_told() {
    for (failure, written, alive) in [
        (Failure::Refused, 0, true),
        (Failure::Unconfirmed, 1, true),
        (Failure::CrashBefore, 0, false),
        (Failure::CrashAfter, 1, false),
    ] {
        let store = MemoryStore::new();
        store.fail_next(failure);
        store.commit(vec![Write::Epoch(1), Write::Node(node("n1", 1))]).await.expect_err("as told");
        assert_eq!(store.load().await.is_ok(), alive, "{failure:?}");
        store.reopen();
        let stored = store.load().await.expect("readable");
        // Never one half of a batch.
        assert_eq!(
            (stored.epoch, stored.nodes.len()),
            (written, usize::try_from(written).expect("small")),
            "{failure:?}"
        );
    }
}
