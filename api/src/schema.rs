//! The resources' definitions, as the chart installs them.
//!
//! Owns their text: the chart's template is this text, and a test compares the two. Must never differ from what the
//! programs read and write: it is made from the same types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::{PodCidrClaim, Vtep};

/// Both definitions as YAML documents.
pub fn crds_yaml() -> String {
    let definitions: [CustomResourceDefinition; 2] = [PodCidrClaim::crd(), Vtep::crd()];
    let document = |definition: &CustomResourceDefinition| {
        // By way of JSON values, whose maps are sorted: the text is the same at every build.
        let value = serde_json::to_value(definition).expect("a definition is plain data");
        serde_saphyr::to_string(&value).expect("a JSON value can be written as YAML")
    };
    definitions.iter().map(document).collect::<Vec<_>>().join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_name_what_users_type() {
        let text = crds_yaml();
        for word in ["vteps.weft.dev", "podcidrclaims.weft.dev", "scope: Cluster", "podCIDRs", "lastTransitionTime"] {
            assert!(text.contains(word), "{word} is missing in:\n{text}");
        }
    }
}
