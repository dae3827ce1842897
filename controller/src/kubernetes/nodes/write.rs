//! Pod CIDRs into a Node.
//!
//! Owns that one patch. The API server takes pod CIDRs for a Node that has none, and never others afterwards: so two
//! writers cannot both succeed. Must never name a Node by its name alone, which another one may have by now.

use k8s_openapi::{api::core::v1::Node, serde_json::json};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use weft_api::names::{ALLOCATOR, ALLOCATOR_ANNOTATION};
use weft_core::types::{Family, PerFamily, PodCidr};

/// Writes them, the first family first, together with the mark that they are ours.
pub(super) async fn pod_cidrs(
    nodes: &Api<Node>,
    name: &str,
    uid: &str,
    cidrs: &PerFamily<Option<PodCidr>>,
    first: Family,
) -> kube::Result<()> {
    let mut texts: Vec<(bool, String)> = cidrs.iter().map(|cidr| (cidr.family() != first, cidr.to_string())).collect();
    texts.sort();
    let texts: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
    let patch = Patch::Strategic(json!({
        "metadata": { "uid": uid, "annotations": { ALLOCATOR_ANNOTATION: ALLOCATOR } },
        "spec": { "podCIDR": texts.first(), "podCIDRs": texts },
    }));
    let params = PatchParams { field_manager: Some("weft-controller".to_owned()), ..PatchParams::default() };
    super::super::store::patiently(|| nodes.patch(name, &params, &patch)).await.map(drop)
}
