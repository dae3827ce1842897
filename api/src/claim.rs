//! PodCidrClaim: who has a pod CIDR.
//!
//! Owns the resource and how a CIDR is spelled as a name. Creation is exclusive in Kubernetes, which is what fences a
//! leader that was paused: whatever its clock believes, it cannot create a claim that another leader has created. Must
//! never be spelled in two ways for one network.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pod CIDR of a node, or of one that departed and that not every agent has let go yet.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "PodCidrClaim",
    plural = "podcidrclaims",
    shortname = "pcc",
    doc = "Who has a pod CIDR. Written by weft-controller only; named after the CIDR, so that none is given twice.",
    printcolumn = r#"{"name": "CIDR", "type": "string", "jsonPath": ".spec.cidr"}"#,
    printcolumn = r#"{"name": "Node", "type": "string", "jsonPath": ".spec.node"}"#,
    printcolumn = r#"{"name": "Released", "type": "boolean", "jsonPath": ".spec.released", "description": "The node departed, and not every agent has let go of the CIDR."}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PodCidrClaimSpec {
    /// The pod CIDR, such as 10.244.1.0/24 or fd00:10:244:1::/64.
    pub cidr: String,
    /// Name of the node that has it, or had it.
    pub node: String,
    /// Which life of that name.
    pub incarnation: u64,
    /// The node departed; the CIDR is not handed out again before every connected agent has acknowledged that.
    #[serde(default)]
    pub released: bool,
}

/// Not a network as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNameError(String);

impl std::fmt::Display for ClaimNameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} has bits set beyond its prefix: a claim is named after the network itself", self.0)
    }
}

impl std::error::Error for ClaimNameError {}

/// The name of a CIDR's claim: `10.244.1.0-24`, or `fd00-0010-0244-0001-0000-0000-0000-0000-64`.
pub fn claim_name(cidr: IpNetwork) -> Result<String, ClaimNameError> {
    if cidr.ip() != cidr.network() {
        return Err(ClaimNameError(cidr.to_string()));
    }
    let address = match cidr.network() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:04x}")).join("-"),
    };
    Ok(format!("{address}-{}", cidr.prefix()))
}

/// The CIDR that a claim of this name is about; none where the name is not spelled as [`claim_name`] does.
pub fn claim_cidr(name: &str) -> Option<IpNetwork> {
    let (address, prefix) = name.rsplit_once('-')?;
    let address: IpAddr = match address.parse() {
        Ok(v4) => IpAddr::V4(v4),
        Err(_) => IpAddr::V6(address.replace('-', ":").parse().ok()?),
    };
    let cidr = IpNetwork::new(address, prefix.parse().ok()?).ok()?;
    // Other spellings of the same network are nobody's names.
    (claim_name(cidr).as_deref() == Ok(name)).then_some(cidr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(cidr: &str) -> Result<String, ClaimNameError> {
        claim_name(cidr.parse().expect("a network"))
    }

    #[test]
    fn one_network_has_one_name() {
        assert_eq!(name("10.244.1.0/24").as_deref(), Ok("10.244.1.0-24"));
        assert_eq!(name("fd00:10:244:1::/64").as_deref(), Ok("fd00-0010-0244-0001-0000-0000-0000-0000-64"));
        assert_eq!(name("fd00:10:244:1:0::/64"), name("fd00:10:244:1::/64"));
        assert!(name("10.244.1.1/24").is_err(), "a second spelling of the same network");
    }

    #[test]
    fn a_name_tells_its_network_and_no_other_spelling_does() {
        for cidr in ["10.244.1.0/24", "fd00:10:244:1::/64", "0.0.0.0/0"] {
            assert_eq!(claim_cidr(&name(cidr).expect("a network")), cidr.parse().ok());
        }
        for bad in
            ["", "10.244.1.0", "10.244.1.0-33", "10.244.1.1-24", "10.244.1.0-024", "fd00-10-244-1---64", "a-b-64"]
        {
            assert_eq!(claim_cidr(bad), None, "{bad:?} was taken for a claim's name");
        }
    }
}
