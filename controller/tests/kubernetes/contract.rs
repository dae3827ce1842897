//! The contract that every store keeps, as far as there are no join tokens; and what this one promises besides.

use weft_api::{PodCidrClaim, Vtep};
use weft_controller::{
    KubeStore,
    store::{Life, Store, StoreError, Stored, Write},
};
use weft_core::{
    encap::Encapsulation,
    settings::{Mode, Settings},
    types::{Family, Vni},
};

use k8s_openapi::serde_json::json;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};

use crate::{
    api::{ApiServer, NAMESPACE},
    objects::{cidr, holders, name, quarantined, record},
};

fn settings() -> Settings {
    Settings {
        pools: vec!["10.244.0.0/16".parse().expect("a CIDR")],
        mode: Mode::Always,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(5).expect("in range"), port: 4789, outer: Family::V6 },
        more: weft_core::membership::More::default(),
    }
}

async fn versions(server: &ApiServer) -> Vec<(String, Option<String>)> {
    let vteps = Api::<Vtep>::all(server.client()).list(&ListParams::default()).await.expect("a list");
    let claims = Api::<PodCidrClaim>::all(server.client()).list(&ListParams::default()).await.expect("a list");
    let metadata = vteps.items.into_iter().map(|vtep| vtep.metadata);
    let metadata = metadata.chain(claims.items.into_iter().map(|claim| claim.metadata));
    metadata.map(|metadata| (metadata.name.unwrap_or_default(), metadata.resource_version)).collect()
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn the_store_keeps_the_contract() {
    let server = ApiServer::start().await;
    let store = KubeStore::new(&server.client(), NAMESPACE);
    store.commit(vec![Write::Epoch(1)]).await.expect_err("nothing was read yet");
    assert_eq!(store.load().await.expect("readable"), Stored::default(), "a new store is empty");
    let life = Life { node: name("gone"), incarnation: 4, ended_unix: None };
    let batch = vec![
        Write::Epoch(12),
        Write::Settings(settings()),
        Write::Node(record("n2", 2)),
        Write::Node(record("n1", 1)),
        Write::Life(life.clone()),
        Write::Quarantine(quarantined(7, "gone")),
    ];
    store.commit(batch.clone()).await.expect("writable");
    let all = Stored {
        epoch: 12,
        settings: Some(settings()),
        nodes: vec![record("n1", 1), record("n2", 2)],
        quarantine: vec![quarantined(7, "gone")],
        lives: vec![life.clone()],
        ..Stored::default()
    };
    assert_eq!(store.load().await.expect("readable"), all);
    let again = KubeStore::new(&server.client(), NAMESPACE);
    assert_eq!(again.load().await.expect("readable"), all, "another controller reads something else");

    let before = versions(&server).await;
    assert_eq!(before.len(), 3 + 5, "{before:?}");
    again.commit(batch).await.expect("writable");
    assert_eq!(versions(&server).await, before, "what is so already was written again");

    let batch = vec![
        Write::RemoveNode(name("n1")),
        Write::RemoveQuarantine(cidr(7)),
        Write::RemoveLife(life.node),
        Write::RemoveNode(name("never-there")),
        // The last word about a record counts.
        Write::Epoch(13),
        Write::Epoch(14),
    ];
    again.commit(batch).await.expect("writable");
    let rest = Stored { epoch: 14, settings: Some(settings()), nodes: vec![record("n2", 2)], ..Stored::default() };
    assert_eq!(again.load().await.expect("readable"), rest);

    // The other one does not know, and must not write over it.
    let refused = store.commit(vec![Write::Epoch(20)]).await.expect_err("another controller took a term");
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused}");
    assert_eq!(store.load().await.expect("readable"), rest);
}

/// Two leaders for a moment: whoever is late changes nothing that the other relies on.
#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_late_leader_takes_nothing_from_its_successor() {
    let server = ApiServer::start().await;
    let new = KubeStore::new(&server.client(), NAMESPACE);
    new.load().await.expect("readable");
    new.commit(vec![Write::Node(record("a", 1)), Write::Quarantine(quarantined(2, "b"))]).await.expect("writable");
    let mut late = record("a", 1);
    late.facts.as_mut().expect("it has reported").agent_version = "late".to_owned();
    let mut old = Vec::new();
    for batch in [Write::Node(record("d", 3)), Write::Node(late), Write::Epoch(5)] {
        let store = KubeStore::new(&server.client(), NAMESPACE);
        store.load().await.expect("readable");
        old.push((store, batch));
    }
    let mut moved = record("a", 1);
    moved.facts.as_mut().expect("it has reported").underlay_mtu = 9000;
    new.commit(vec![Write::Epoch(5), Write::Node(record("c", 3)), Write::Node(moved)]).await.expect("writable");
    let expected = new.load().await.expect("readable");

    for (store, write) in old {
        // It believes what it read before its successor began.
        let refused = store.commit(vec![write]).await.expect_err("its successor was there");
        assert!(matches!(refused, StoreError::Conflict(_)), "{refused}");
        let stored = new.load().await.expect("readable");
        holders(&stored);
        assert_eq!(stored, expected, "the late leader changed something");
        store.commit(Vec::new()).await.expect_err("it has to read first what it did not know");
    }
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn what_cannot_be_read_costs_nobody_anything() {
    let server = ApiServer::start().await;
    let store = KubeStore::new(&server.client(), NAMESPACE);
    store.load().await.expect("readable");
    store.commit(vec![Write::Node(record("a", 1)), Write::Node(record("b", 2))]).await.expect("writable");
    let vteps = Api::<Vtep>::all(server.client());
    let claims = Api::<PodCidrClaim>::all(server.client());
    let patch = |value| Patch::Merge(value);
    vteps.patch("a", &PatchParams::default(), &patch(json!({ "spec": { "mac": "nonsense" } }))).await.expect("patched");
    claims
        .patch("10.244.2.0-24", &PatchParams::default(), &patch(json!({ "spec": { "node": "No Name" } })))
        .await
        .expect("patched");
    let stored = store.load().await.expect("one bad object stops nobody");
    assert_eq!(stored.unreadable, [name("a")]);
    assert_eq!(stored.nodes, [record("b", 2)], "a member lost something over a bad claim");
    let holders = holders(&stored);
    assert_eq!(holders.get(&cidr(1)), Some(&name("a")), "the CIDR of a node that cannot be read is free");
    assert_eq!(holders.get(&cidr(2)), Some(&name("b")));
    // Both are written again with the next word about them.
    store.commit(vec![Write::Node(record("a", 1))]).await.expect("writable");
    let stored = store.load().await.expect("readable");
    assert_eq!((stored.nodes, stored.unreadable), (vec![record("a", 1), record("b", 2)], vec![]));
    let claim = claims.get("10.244.2.0-24").await.expect("it is there");
    assert_eq!(claim.spec.node, "b", "the claim was not mended");
}

#[tokio::test]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_status_is_no_obstacle() {
    let server = ApiServer::start().await;
    let store = KubeStore::new(&server.client(), NAMESPACE);
    store.load().await.expect("readable");
    store.commit(vec![Write::Node(record("a", 1))]).await.expect("writable");
    let status = json!({ "status": { "state": "Ready", "conditions": [] } });
    let vteps = Api::<Vtep>::all(server.client());
    vteps.patch_status("a", &PatchParams::default(), &Patch::Merge(status)).await.expect("patched");
    let mut moved = record("a", 1);
    moved.facts.as_mut().expect("it has reported").underlay_mtu = 9000;
    store.commit(vec![Write::Node(moved.clone())]).await.expect("only its spec is ours");
    let vtep = vteps.get("a").await.expect("it is there");
    assert_eq!(vtep.spec.underlay_mtu, 9000);
    assert!(vtep.status.is_some_and(|status| status.state == weft_api::VtepState::Ready), "the status is gone");
}
