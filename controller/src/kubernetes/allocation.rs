//! What the cluster's ConfigMap says of allocation, for `weft status`.
//!
//! Owns key `allocation` of it: written when a term begins and when it is found out who allocates. Must never be read by a
//! controller: what decides is the configuration, and the Nodes themselves.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::ConfigMap,
    serde_json::{self, json},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use tokio::time::{MissedTickBehavior, interval};
use weft_api::{Allocation, AllocationPool, names};
use weft_core::alloc::PoolRule;

use super::Leader;
use crate::config::NodeCidrs;

/// Between two looks at who allocates, and between two tries to write it.
const LOOK: Duration = Duration::from_secs(2);

/// Tells for as long as it is not dropped.
pub(super) async fn run(leader: Leader, rules: Vec<PoolRule>) -> anyhow::Result<()> {
    let maps = Api::<ConfigMap>::namespaced(leader.client, &leader.namespace);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut trouble) = (None, None);
    loop {
        look.tick().await;
        // A refusal means that the term ends, and this with it.
        let Ok(status) = leader.cluster.status().await else { continue };
        let now = allocation(status.allocates, &rules);
        if told.as_ref() == Some(&now) {
            continue;
        }
        let text = serde_json::to_string(&now)?;
        let patch = Patch::Merge(json!({ "data": { names::ALLOCATION: text } }));
        match maps.patch(names::CLUSTER, &PatchParams::default(), &patch).await {
            Ok(_) => (told, trouble) = (Some(now), None),
            Err(error) => {
                let error = error.to_string();
                if trouble.as_ref() != Some(&error) {
                    tracing::warn!("ConfigMap {} cannot be written: {error}; trying again", names::CLUSTER);
                    trouble = Some(error);
                }
            }
        }
    }
}

fn allocation(allocates: Option<NodeCidrs>, rules: &[PoolRule]) -> Allocation {
    let node_cidrs = match allocates {
        Some(NodeCidrs::Weft) => "weft",
        Some(NodeCidrs::KubeControllerManager) => "kube-controller-manager",
        Some(NodeCidrs::Auto) | None => "",
    };
    let pool = |rule: &PoolRule| AllocationPool {
        cidr: rule.pool.cidr().to_string(),
        node_prefix: rule.pool.node_prefix(),
        selector: rule.selector.to_string(),
    };
    Allocation {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_cidrs: node_cidrs.to_owned(),
        pools: rules.iter().map(pool).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_told_as_they_are_configured() {
        let rules: Vec<PoolRule> =
            ["10.244.0.0/16=24", "fd00:10:244::/48=64 rack!=7,zone=b"].map(|text| text.parse().expect("a pool")).into();
        let told = allocation(Some(NodeCidrs::Weft), &rules);
        assert_eq!(told.node_cidrs, "weft");
        let pools: Vec<_> =
            told.pools.iter().map(|pool| (pool.cidr.as_str(), pool.node_prefix, pool.selector.as_str())).collect();
        assert_eq!(pools, [("10.244.0.0/16", 24, ""), ("fd00:10:244::/48", 64, "rack!=7,zone=b")]);
        assert_eq!(allocation(None, &rules).node_cidrs, "", "not known yet is said by nothing");
    }
}
