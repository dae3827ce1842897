//! Vtep: a node as Weft knows it.
//!
//! Owns the resource: its spec is what the other nodes were told, written before they were told; its status is how the
//! node stands. Must never be written by anybody but the leading controller.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node's tunnel endpoint, its pod CIDRs, and how it stands with its peers.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "Vtep",
    plural = "vteps",
    shortname = "vtep",
    status = "VtepStatus",
    doc = "A node as Weft knows it: what its peers were told of it, and how it stands. Written by weft-controller only.",
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".status.state"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.reason"}"#,
    printcolumn = r#"{"name": "Since", "type": "date", "jsonPath": ".status.since"}"#,
    printcolumn = r#"{"name": "Pod CIDRs", "type": "string", "jsonPath": ".status.podCIDRs"}"#,
    printcolumn = r#"{"name": "Underlay", "type": "string", "jsonPath": ".status.underlay"}"#,
    printcolumn = r#"{"name": "Paths", "type": "string", "jsonPath": ".status.paths", "description": "How the other nodes reach it, counted for each family."}"#,
    printcolumn = r#"{"name": "Applied", "type": "string", "jsonPath": ".status.appliedRevision", "description": "The newest revision that its kernel was read back to hold."}"#,
    printcolumn = r#"{"name": "MTU", "type": "integer", "jsonPath": ".spec.underlayMTU", "priority": 1}"#,
    printcolumn = r#"{"name": "MAC", "type": "string", "jsonPath": ".spec.mac", "priority": 1}"#,
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".spec.agentVersion", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VtepSpec {
    /// UID of the Node object of this life.
    pub node_uid: String,
    /// Which life of the node's name.
    pub incarnation: u64,
    /// Its pod CIDRs, at most one a family.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// MAC address of its VXLAN device, chosen by the controller.
    pub mac: String,
    /// The addresses that outer packets carry, each with its on-link prefix, at most one a family; none before its agent
    /// has reported.
    #[serde(default)]
    pub underlay: Vec<VtepUnderlay>,
    /// MTU of the underlay link in bytes; 0 before its agent has reported.
    #[serde(default, rename = "underlayMTU")]
    pub underlay_mtu: u32,
    /// Version its agent reported last; empty until then.
    #[serde(default)]
    pub agent_version: String,
    /// The newest kind of settings that its agent can follow; 0 is version 0.1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub agent_generation: u32,
    /// When the node was admitted, Unix time in milliseconds.
    #[serde(default)]
    pub joined_unix_ms: i64,
    /// The Node object is gone; this object goes once every connected agent has acknowledged that.
    #[serde(default)]
    pub departed: bool,
}

// serde asks by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// An underlay address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VtepUnderlay {
    /// The address with its on-link prefix, such as 192.0.2.7/24.
    pub address: String,
}

/// How a node stands, in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VtepState {
    /// Known, but not complete yet.
    #[default]
    Pending,
    /// Programmed, read back, and answering probes.
    Ready,
    /// Its agent is not connected; the data plane may well work.
    Disconnected,
    /// Its kernel does not hold what it should, and could not be repaired.
    Degraded,
    /// Probes to it are lost.
    Unreachable,
    /// Its Node object is gone; not every agent has let it go yet.
    Departed,
}

/// Types of a Vtep's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionType {
    /// It is as it should be in every respect.
    Ready,
    /// Its agent's stream is open.
    Connected,
    /// Its kernel was read back to hold all that was announced.
    Programmed,
    /// Its peers' probes are answered.
    Reachable,
    /// It has the pod CIDRs it needs.
    Allocated,
}

impl ConditionType {
    /// As it stands in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Connected => "Connected",
            Self::Programmed => "Programmed",
            Self::Reachable => "Reachable",
            Self::Allocated => "Allocated",
        }
    }
}

/// How a node stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VtepStatus {
    /// In one word.
    #[serde(default)]
    pub state: VtepState,
    /// Why, as one CamelCase word; empty where the state is Ready.
    #[serde(default)]
    pub reason: String,
    /// Why, and what to do about it, for people.
    #[serde(default)]
    pub message: String,
    /// Since when.
    #[serde(default)]
    pub since: Option<Time>,
    /// The pod CIDRs in one text, for the printed columns.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: String,
    /// The underlay addresses in one text, for the printed columns.
    #[serde(default)]
    pub underlay: String,
    /// How the other nodes reach it in one text, such as `1 direct, 2 vxlan`.
    #[serde(default)]
    pub paths: String,
    /// The same by family.
    #[serde(default)]
    pub reach: Vec<FamilyReach>,
    /// The newest revision that its kernel was read back to hold, as `EPOCH.SEQUENCE`.
    #[serde(default)]
    pub applied_revision: String,
    /// The same in numbers, with its time.
    #[serde(default)]
    pub applied: Option<RevisionStatus>,
    /// Changes that it has not acknowledged.
    #[serde(default)]
    pub revision_lag: u64,
    /// What its agent last said of its peers.
    #[serde(default)]
    pub peers: Option<PeerReport>,
    /// Conditions in Kubernetes style: Ready, Connected, Programmed, Reachable, Allocated.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A point in the history of the membership.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// The leader's term.
    pub epoch: u64,
    /// The change inside the term.
    pub sequence: u64,
    /// When it was acknowledged.
    #[serde(default)]
    pub since: Option<Time>,
}

/// How the other nodes reach a node in one family: how many do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FamilyReach {
    /// ipv4 or ipv6.
    pub family: String,
    /// By the plain route.
    pub direct: u32,
    /// Through VXLAN.
    pub vxlan: u32,
    /// Not at all.
    pub unreached: u32,
}

/// What a node's agent last said of its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// Peers that answered their last probe.
    pub healthy: u32,
    /// Peers with a problem.
    pub problems: u32,
    /// The first of these, each as `NODE: REASON: MESSAGE`.
    #[serde(default)]
    pub first: Vec<String>,
}
