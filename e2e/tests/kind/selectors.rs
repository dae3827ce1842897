//! A pool of its own for nodes that a selector picks.

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use weft_e2e::{
    kind::{Kind, Node, Scene},
    kind_test,
};

use crate::pools::{moved, old};

/// The label, and what it is set to.
const LABEL: &str = "weft-test/rack";
const RACK: &str = "seven";
/// What its pools' networks begin with, and how long a node's prefix is in them.
const RACKS: [(&str, u8); 2] = [("10.77.0.0/16", 26), ("fd00:10:77::/56", 72)];

/// The picked nodes' pools, and everybody's for all others: a Node that comes again keeps what its pool still serves it.
fn pools(kind: &Kind) -> Vec<Value> {
    let own = RACKS.map(|(cidr, prefix)| json!({ "cidr": cidr, "nodePrefix": prefix }));
    let own = own.into_iter().take(kind.families().len()).map(|pool| (pool, "="));
    let all = own.chain(old(kind).into_iter().map(|pool| (pool, "!=")));
    all.map(|(mut pool, sign)| {
        pool["nodeSelector"] = json!(format!("{LABEL}{sign}{RACK}"));
        pool
    })
    .collect()
}

/// The pod CIDRs that a node's object has.
async fn shares(kind: &Kind, node: &Node) -> Result<Vec<IpNetwork>> {
    let spec = node.object(&kind.client()).await?.spec.unwrap_or_default();
    spec.pod_cidrs.unwrap_or_default().iter().map(|cidr| Ok(cidr.parse()?)).collect()
}

/// True for a share of the picked nodes' pools.
fn picked(share: &IpNetwork) -> bool {
    RACKS.iter().any(|(pool, prefix)| {
        let pool: IpNetwork = pool.parse().expect("a pool is a network");
        pool.contains(share.network()) && share.prefix() == *prefix
    })
}

/// All shares of a node are of the picked nodes' pools, or none is.
async fn expect(kind: &Kind, node: &Node, wanted: bool) -> Result<()> {
    let shares = shares(kind, node).await?;
    ensure!(shares.len() == kind.families().len(), "{} has {shares:?}", node.name());
    ensure!(shares.iter().all(|share| picked(share) == wanted), "{} has {shares:?}", node.name());
    Ok(())
}

/// The kubelet registers its Node with a label from now on, or with none again.
async fn label(node: &Node, labelled: bool) -> Result<()> {
    let change = if labelled {
        format!(r#"s|"$| --node-labels={LABEL}={RACK}"|"#)
    } else {
        format!("s| --node-labels={LABEL}={RACK}||")
    };
    node.run(&["sed", "-i", &change, "/var/lib/kubelet/kubeadm-flags.env"]).await?;
    Ok(())
}

/// Has both Nodes register again while the pools are there.
async fn look(kind: &Kind, node: &Node, other: &Node) -> Result<()> {
    kind.install(&json!({ "pools": pools(kind) })).await?;
    // Who has a share keeps it.
    expect(kind, node, false).await?;
    for (node, wanted) in [(node, true), (other, false)] {
        moved(kind, node).await?;
        expect(kind, node, wanted).await?;
    }
    let scene = Scene::set(kind, "picked").await?;
    let [here, _] = kind.across();
    let pods = [scene.pod("picked", node).await?, scene.pod("other", other).await?, scene.pod("across", here).await?];
    for family in kind.families() {
        let address = pods[0].address(family);
        let share = shares(kind, node).await?.into_iter().find(|share| share.contains(address));
        share.with_context(|| format!("the picked node's pod has {address}"))?;
        for from in &pods {
            for to in &pods {
                from.reaches(to.address(family)).await?;
            }
        }
    }
    scene.end().await
}

kind_test!(a_pool_with_a_selector_serves_the_nodes_that_it_picks_and_no_others, async |kind: &Kind| {
    let [other, node] = kind.neighbours();
    label(node, true).await?;
    let looked = look(kind, node, other).await;
    label(node, false).await?;
    kind.install(&json!({})).await?;
    moved(kind, node).await?;
    looked?;
    expect(kind, node, false).await
});
