//! A Node object as the cluster wants it.
//!
//! Owns the reading of it: every field checked, each Node by itself. Must never guess what a field that cannot be read
//! was meant to say.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use weft_api::names::{ALLOCATOR, ALLOCATOR_ANNOTATION};
use weft_core::types::{CidrError, Family, NodeName, PerFamily, PodCidr};

use crate::{
    cluster::{NodeSeen, Refusal},
    config::AgentNodes,
};

/// Reads a Node.
pub(super) fn seen(node: &Node) -> Result<NodeSeen, Refusal> {
    let name = name(node).ok_or_else(|| Refusal::NodeInvalid {
        node: "unknown".parse().expect("a name"),
        detail: "its name is none that a Node can have".to_owned(),
    })?;
    let invalid = |detail: String| Refusal::NodeInvalid { node: name.clone(), detail };
    let pod_cidrs = pod_cidrs(node).map_err(|error| invalid(error.to_string()))?;
    let uid = node.metadata.uid.clone().ok_or_else(|| invalid("it has no UID".to_owned()))?;
    let created = node.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
    let annotation = node.metadata.annotations.as_ref().and_then(|all| all.get(ALLOCATOR_ANNOTATION));
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    Ok(NodeSeen {
        uid,
        created_unix: u64::try_from(created).unwrap_or(0),
        pod_cidrs,
        cidrs_are_ours: annotation.is_some_and(|value| value == ALLOCATOR),
        // Host names and the like are no addresses.
        addresses: addresses.filter_map(|address| address.address.parse().ok()).collect(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        name,
    })
}

/// True where an agent runs, or will run, on the Node.
pub(in crate::kubernetes) fn has_agent(agents: &AgentNodes, node: &Node) -> bool {
    let none = BTreeMap::new();
    agents.includes(&node.name_any(), node.metadata.labels.as_ref().unwrap_or(&none))
}

/// Its name; every name of a Node is one.
pub(super) fn name(node: &Node) -> Option<NodeName> {
    node.metadata.name.as_deref()?.parse().ok()
}

/// Why a Node's pod CIDRs cannot be taken.
#[derive(Debug, thiserror::Error)]
enum CidrsError {
    #[error("spec.podCIDRs: {0}{AGAIN}")]
    Wrong(#[from] CidrError),
    #[error("spec.podCIDRs has two of {0}: Weft takes one a family{AGAIN}")]
    Two(Family),
}

const AGAIN: &str = "; a Node's pod CIDRs cannot be changed, so delete it and have its kubelet register it again";

fn pod_cidrs(node: &Node) -> Result<PerFamily<Option<PodCidr>>, CidrsError> {
    let Some(spec) = &node.spec else { return Ok(PerFamily::default()) };
    let mut cidrs: PerFamily<Option<PodCidr>> = PerFamily::default();
    let texts = spec.pod_cidrs.iter().flatten();
    // Every API server of today fills both; the single one is the first of the list.
    let single = spec.pod_cidr.iter().filter(|single| !spec.pod_cidrs.iter().flatten().any(|text| text == *single));
    for text in texts.chain(single).filter(|text| !text.is_empty()) {
        let cidr: PodCidr = text.parse()?;
        let family = cidr.family();
        if cidrs.get_mut(family).replace(cidr).is_some() {
            return Err(CidrsError::Two(family));
        }
    }
    Ok(cidrs)
}

#[cfg(test)]
pub(super) mod tests;
