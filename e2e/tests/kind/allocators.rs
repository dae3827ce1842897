//! Who gives nodes their pod CIDRs: Weft, or kube-controller-manager, which is respected.

use anyhow::{Context, ensure};
use ipnetwork::IpNetwork;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};
use weft_api::{Allocation, PodCidrClaim, claim_name, names};
use weft_e2e::{kind::Kind, kind_test};

kind_test!(each_node_has_one_pod_cidr_of_each_family_and_the_claim_to_it, async |kind: &Kind| {
    let claims: Api<PodCidrClaim> = Api::all(kind.client());
    let mut taken = Vec::new();
    for node in kind.nodes() {
        let spec = node.object(&kind.client()).await?.spec.unwrap_or_default();
        let cidrs = spec.pod_cidrs.unwrap_or_default();
        ensure!(cidrs.len() == kind.families().len(), "{} has {cidrs:?}", node.name());
        ensure!(spec.pod_cidr.as_ref() == cidrs.first(), "{}: {:?}, {cidrs:?}", node.name(), spec.pod_cidr);
        let vtep = kind.vteps().get(node.name()).await?;
        ensure!(vtep.spec.pod_cidrs == cidrs, "{} has {cidrs:?} and is told as {:?}", node.name(), vtep.spec.pod_cidrs);
        for cidr in cidrs {
            let cidr: IpNetwork = cidr.parse()?;
            let claim = claims.get(&claim_name(cidr)?).await?.spec;
            ensure!(claim.node == node.name() && !claim.released, "{cidr} of {} is claimed: {claim:?}", node.name());
            ensure!(!taken.contains(&cidr), "{cidr} is given twice");
            taken.push(cidr);
        }
    }
    let listed = claims.list(&ListParams::default()).await?.items;
    ensure!(listed.len() == taken.len(), "{} claims for {} CIDRs", listed.len(), taken.len());
    Ok(())
});

kind_test!(weft_says_who_allocates, async |kind: &Kind| {
    let map = kind.own::<k8s_openapi::api::core::v1::ConfigMap>().get(names::CLUSTER).await?;
    let data = map.data.context("it says nothing")?;
    let who = if kind.description().allocate_node_cidrs { "kube-controller-manager" } else { "weft" };
    let said = data.get(names::ALLOCATION).context("it does not say who allocates")?;
    let said: Allocation = serde_json::from_str(said)?;
    ensure!(said.node_cidrs == who, "{} allocates, and it should be {who}", said.node_cidrs);
    let told = kind.weft(&["status", "--output", "json"]).await?;
    let status: Value = serde_json::from_str(&told).with_context(|| format!("weft status printed {told}"))?;
    ensure!(status["nodeCidrs"] == who, "{who} allocates, and weft status prints {told}");
    // One pool a family, and every node has a share of each.
    let pools = status["pools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shares = json!(kind.nodes().count());
    let right = pools.len() == kind.families().len() && pools.iter().all(|pool| pool["used"] == shares);
    ensure!(right, "each pool should have {shares} shares in use, and weft status prints {told}");
    Ok(())
});
