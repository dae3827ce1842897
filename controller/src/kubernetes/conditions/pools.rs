//! Nodes whose pod CIDRs lie in no pool any more: the Node condition PodCIDROutsidePools.
//!
//! Owns that one condition, which a Node has only while it is true, the Event that goes with it, and the one about pods that
//! a Node's earlier pod CIDRs left behind. Must never take anything
//! from such a node: its pods are pods, and only its operator may move them.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Node, NodeCondition},
    serde_json::json,
};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use tokio::time::timeout;
use weft_core::{
    alloc::PoolRule,
    standing::Reason,
    types::{NodeName, PerFamily, PodCidr},
};

use super::now;
use crate::{cluster::NodeStanding, kubernetes::Leader};

/// Its type.
pub(super) const TYPE: &str = "PodCIDROutsidePools";
/// Its reason, and the Event's.
const REASON: &str = "PodCIDROutsidePools";
/// Between two looks. Pools change with the controller's start only.
const AGAIN: Duration = Duration::from_secs(10);

/// Runs until the cluster stops.
pub(in super::super) async fn run(leader: Leader, rules: Vec<PoolRule>) -> anyhow::Result<()> {
    let pools: Vec<PodCidr> = rules.iter().map(|rule| rule.pool.cidr()).collect();
    let mut version = leader.cluster.peers_version();
    let mut told = BTreeSet::new();
    loop {
        let Ok(standings) = leader.cluster.standings().await else { return Ok(()) };
        if !leader.cluster.is_cleaning_up() {
            look(&leader, &pools, &standings).await;
            tell_left_behind(&leader, &mut told, &standings);
        }
        version.mark_unchanged();
        tokio::time::sleep(AGAIN).await;
        if let Ok(Err(_gone)) = timeout(AGAIN, version.changed()).await {
            return Ok(());
        }
    }
}

/// The condition as a Node has it.
pub(super) fn present(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == TYPE)
}

/// One Event names the pods of a Node that have lost the network.
fn tell_left_behind(leader: &Leader, told: &mut BTreeSet<NodeName>, standings: &[NodeStanding]) {
    for standing in standings {
        let is_so = standing.reason == Some(Reason::PodsOutsideCidr);
        if !is_so {
            told.remove(&standing.name);
        } else if told.insert(standing.name.clone())
            && let Some(node) = leader.nodes.get(&ObjectRef::new(standing.name.as_str()))
        {
            leader.events.warn(&node.object_ref(&()), Reason::PodsOutsideCidr.as_str(), &standing.message);
        }
    }
}

async fn look(leader: &Leader, pools: &[PodCidr], standings: &[NodeStanding]) {
    let standings: HashMap<&str, &NodeStanding> =
        standings.iter().map(|standing| (standing.name.as_str(), standing)).collect();
    for node in leader.nodes.state() {
        let name = node.name_any();
        let cidrs = standings.get(name.as_str()).map(|standing| standing.pod_cidrs);
        let message = cidrs.and_then(|cidrs| message(&cidrs, pools));
        let says = present(&node).map(|condition| condition.message.clone().unwrap_or_default());
        if says == message {
            continue;
        }
        if let Some(message) = &message {
            leader.events.warn(&node.object_ref(&()), REASON, message);
            tracing::warn!(node = %name, "{message}");
        }
        if let Err(error) = write(&Api::all(leader.client.clone()), &name, message.as_deref()).await {
            tracing::warn!(node = %name, "condition {TYPE} cannot be written: {error}; trying again");
        }
    }
}

/// What is wrong with a node's pod CIDRs; none if pools cover them.
fn message(cidrs: &PerFamily<Option<PodCidr>>, pools: &[PodCidr]) -> Option<String> {
    let texts = |cidrs: Vec<&PodCidr>| cidrs.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let outside: Vec<&PodCidr> = cidrs.iter().filter(|cidr| !pools.iter().any(|pool| pool.covers(cidr))).collect();
    (!outside.is_empty()).then(|| {
        format!(
            "pod CIDR {} is in none of the pools ({}): pods here go on as before; to move the Node to a pool, drain it, delete it \
             and restart its kubelet, which registers it again",
            texts(outside),
            texts(pools.iter().collect())
        )
    })
}

async fn write(nodes: &Api<Node>, name: &str, message: Option<&str>) -> kube::Result<()> {
    let condition = match message {
        None => json!({ "type": TYPE, "$patch": "delete" }),
        Some(message) => json!(NodeCondition {
            type_: TYPE.to_owned(),
            status: "True".to_owned(),
            reason: Some(REASON.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: now(),
            last_transition_time: now(),
        }),
    };
    let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
    nodes.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::fake::FakeApi;

    fn cidrs(v4: &str) -> PerFamily<Option<PodCidr>> {
        PerFamily { v4: Some(v4.parse().expect("a CIDR")), v6: None }
    }

    #[test]
    fn only_what_no_pool_covers_is_told_with_the_way_out() {
        let pools: Vec<PodCidr> = ["10.99.0.0/16", "10.98.0.0/16"].map(|pool| pool.parse().expect("a CIDR")).into();
        assert_eq!(message(&cidrs("10.98.3.0/24"), &pools), None);
        let told = message(&cidrs("10.244.3.0/24"), &pools).expect("it is outside");
        for word in ["10.244.3.0/24", "10.99.0.0/16, 10.98.0.0/16", "drain"] {
            assert!(told.contains(word), "{told}");
        }
    }

    #[tokio::test]
    async fn the_condition_comes_and_goes_and_others_stay() {
        let (api, path) = (FakeApi::default(), "/api/v1/nodes/n1");
        let other = json!({ "type": "Ready", "status": "True" });
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1" }, "status": { "conditions": [other] },
        });
        api.put(path, node);
        let nodes = Api::all(api.client());
        write(&nodes, "n1", Some("outside")).await.expect("written");
        let said = api.object(path)["status"]["conditions"].clone();
        assert_eq!((&said[1]["type"], &said[1]["status"]), (&json!(TYPE), &json!("True")));
        write(&nodes, "n1", None).await.expect("written");
        assert_eq!(api.object(path)["status"]["conditions"], json!([other]));
    }
}
