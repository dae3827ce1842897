//! Many Nodes: figures, with bars that only a fault misses.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use tokio::time::{Instant, sleep};
use weft_api::{PodCidrClaim, Vtep};
use weft_controller::{
    KubeStore,
    store::{Store as _, Write},
};

use crate::{
    api::{ApiServer, NAMESPACE},
    nodes::Controller,
    objects::node,
};

/// `WEFT_FLEET=5000` makes it as large as Weft is meant to go.
fn size() -> usize {
    std::env::var("WEFT_FLEET").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

async fn all_served(server: &ApiServer, size: usize) {
    let nodes = Api::<Node>::all(server.client());
    let begun = Instant::now();
    loop {
        let items = nodes.list(&ListParams::default()).await.expect("a list").items;
        let served = |node: &&Node| node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some());
        if items.iter().filter(served).count() == size {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "the controller's log: {}", server.log("controller"));
        sleep(Duration::from_millis(200)).await;
    }
}

/// What tells of each object whether its spec was written since.
async fn versions(server: &ApiServer) -> BTreeMap<String, String> {
    let all = ListParams::default();
    let vteps = Api::<Vtep>::all(server.client()).list(&all).await.expect("a list").items;
    let claims = Api::<PodCidrClaim>::all(server.client()).list(&all).await.expect("a list").items;
    let metadata = vteps.into_iter().map(|vtep| vtep.metadata).chain(claims.into_iter().map(|claim| claim.metadata));
    metadata.map(|it| (it.name.unwrap_or_default(), format!("{:?} {:?}", it.uid, it.generation))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the API server that ./dev cluster up builds"]
async fn a_fleet_is_taken_in_at_once_and_costs_no_write_afterwards() {
    let (server, size) = (ApiServer::start().await, size());
    let nodes = Api::<Node>::all(server.client());
    let create = |n: usize| {
        let nodes = nodes.clone();
        async move { nodes.create(&PostParams::default(), &node(&format!("n{n}"))).await.map(drop) }
    };
    let created: Vec<_> = stream::iter(0..size).map(create).buffer_unordered(32).collect().await;
    created.into_iter().for_each(|created| created.expect("a Node"));

    let begun = Instant::now();
    let options = ["--pool=11.0.0.0/8=24", "--pool=fd00::/32=64"];
    let controller = Controller::start(&server, &options);
    all_served(&server, size).await;
    println!("{size} Nodes have their pod CIDRs after {:.1} s", begun.elapsed().as_secs_f64());
    let before = versions(&server).await;
    assert_eq!(before.len(), 3 * size, "a Vtep and two claims for each");

    controller.crash();
    let _controller = Controller::start(&server, &options);
    let begun = Instant::now();
    nodes.create(&PostParams::default(), &node("one-more")).await.expect("a Node");
    all_served(&server, size + 1).await;
    println!("one more after a change of leader: {:.1} s", begun.elapsed().as_secs_f64());
    let after = versions(&server).await;
    let written = before.iter().filter(|(name, version)| after.get(*name) != Some(version)).count();
    assert_eq!(written, 0, "objects were written again without need");

    let store = KubeStore::new(&server.client(), NAMESPACE);
    let begun = Instant::now();
    let stored = store.load().await.expect("readable");
    println!("everything is read in {:.2} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    store.commit(stored.nodes.into_iter().map(Write::Node).collect()).await.expect("nothing to write");
    println!("a batch of what is so already takes {:.2} s", begun.elapsed().as_secs_f64());
}
