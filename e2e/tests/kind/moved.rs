//! A pod CIDR that another allocator gives to another Node, as soon as it is free: nobody may follow the old owner.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;
use weft_api::{PodCidrClaim, VtepState};
use weft_e2e::{
    kind::{Kind, Node, Scene, wait as watch},
    kind_test,
};

/// The pod CIDRs that a node's object has.
async fn cidrs(kind: &Kind, node: &Node) -> Result<Vec<String>> {
    let cidrs = node.object(&kind.client()).await?.spec.and_then(|spec| spec.pod_cidrs);
    cidrs.filter(|cidrs| !cidrs.is_empty()).with_context(|| format!("{} has no pod CIDR", node.name()))
}

/// Both Nodes go and come again at once, each with what the other had.
async fn swap(kind: &Kind, pair: [(&Node, &Vec<String>); 2]) -> Result<()> {
    let nodes: Api<v1::Node> = Api::all(kind.client());
    for (node, _) in pair {
        nodes.delete(node.name(), &DeleteParams::default()).await?;
    }
    for (node, has) in pair {
        watch::gone(&nodes, node.name(), watch::PATIENCE).await?;
        let object = json!({ "metadata": { "name": node.name() }, "spec": { "podCIDR": has[0], "podCIDRs": has } });
        nodes.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    }
    Ok(())
}

kind_test!(pod_cidrs_that_change_their_nodes_are_followed_by_all, async |kind: &Kind| {
    ensure!(
        kind.description().allocate_node_cidrs,
        "Weft allocates here: this needs ./dev cluster up --allocate-node-cidrs"
    );
    let [one, other] = kind.neighbours();
    let (first, second) = (cidrs(kind, one).await?, cidrs(kind, other).await?);
    // They would register themselves between.
    for node in [one, other] {
        kind.kubectl(&["drain", node.name(), "--ignore-daemonsets", "--force", "--timeout=50s"]).await?;
        node.run(&["systemctl", "stop", "kubelet"]).await?;
    }
    let swapped = swap(kind, [(one, &second), (other, &first)]).await;
    for node in [one, other] {
        node.run(&["systemctl", "start", "kubelet"]).await?;
    }
    swapped?;
    for (node, has) in [(one, &second), (other, &first)] {
        let what = format!("{} to be told with {has:?}", node.name());
        watch::object(&kind.vteps(), node.name(), &what, watch::PATIENCE, |vtep| {
            let (spec, status) = vtep.map(|vtep| (&vtep.spec, &vtep.status)).context("it is not told")?;
            let state = status.as_ref().map(|status| (status.state, &status.message));
            ensure!(&spec.pod_cidrs == has, "it is told with {:?}, {state:?}", spec.pod_cidrs);
            ensure!(matches!(state, Some((VtepState::Ready, _))), "it is {state:?}");
            Ok(())
        })
        .await?;
        ensure!(&cidrs(kind, node).await? == has, "{} was given something else meanwhile", node.name());
    }
    kind.settled().await?;
    let claims: Api<PodCidrClaim> = Api::all(kind.client());
    let listed = claims.list(&ListParams::default()).await?.items;
    ensure!(
        listed.len() == kind.nodes().count() * kind.families().len(),
        "too much or too little is claimed: {listed:?}"
    );
    for claim in listed {
        ensure!(!claim.spec.released, "{:?} is somebody's, and not released", claim.spec);
        let node = kind.node(&claim.spec.node);
        ensure!(cidrs(kind, node).await?.contains(&claim.spec.cidr), "{:?} is nobody's", claim.spec);
    }
    let scene = Scene::set(kind, "moved").await?;
    let nodes: Vec<_> = kind.nodes().collect();
    let pods = scene.pods_of("pod", &nodes).await?;
    for family in kind.families() {
        for from in &pods {
            for to in &pods {
                from.reaches(to.address(family)).await?;
            }
        }
    }
    scene.end().await
});
