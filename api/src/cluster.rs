//! What the ConfigMap of the cluster says, beside its term and settings.
//!
//! Owns the form of the values that people and scripts see by way of `weft status`. Must never hold what a Vtep or
//! a claim says already: those are counted when somebody asks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where pod CIDRs come from: value of [`ALLOCATION`](crate::names::ALLOCATION), as the leader holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// Version of the leader.
    #[serde(default)]
    pub version: String,
    /// Who allocates: `weft` or `kube-controller-manager`; empty while that is not known.
    #[serde(default)]
    pub node_cidrs: String,
    /// The pools, as configured.
    #[serde(default)]
    pub pools: Vec<AllocationPool>,
}

/// A pool that pod CIDRs are cut from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationPool {
    /// The pool's network.
    pub cidr: String,
    /// Prefix length of the pod CIDRs cut from it, in bits.
    pub node_prefix: u8,
    /// Labels of the nodes it is for, such as `zone=b,rack!=7`; empty: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
}

/// How an uninstallation stands: value of [`UNINSTALL`](crate::names::UNINSTALL).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uninstall {
    /// Whether it has come to its end.
    pub state: UninstallState,
    /// Nodes that are as before the installation.
    #[serde(default)]
    pub cleaned: Vec<String>,
    /// Nodes that are not, and why.
    #[serde(default)]
    pub waiting: Vec<Waiting>,
    /// Why the request was refused, and what to do instead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Nodes that a line names before it counts the rest.
const NAMED: usize = 5;

/// One line for people: how many nodes are clean, and which are not.
impl fmt::Display for Uninstall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cleaned, waiting) = (self.cleaned.len(), self.waiting.len());
        match self.state {
            UninstallState::Refused => return write!(f, "refused: {}", self.why),
            UninstallState::Done => return write!(f, "done: nothing of Weft is left, {cleaned} nodes were cleaned up"),
            UninstallState::Running => write!(f, "{cleaned} of {} nodes are clean", cleaned + waiting)?,
        }
        if waiting == 0 {
            return Ok(());
        }
        let names: Vec<String> =
            self.waiting.iter().take(NAMED).map(|one| format!("{} ({})", one.node, one.why)).collect();
        write!(f, "; waiting for {}", names.join(", "))?;
        match waiting.saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A request that has to be renewed: value of [`UNINSTALL_ANNOTATION`](crate::names::UNINSTALL_ANNOTATION) that the chart's
/// hook writes. The leader follows it only while `beat` changes and Helm's newest record of the release says `uninstalling`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UninstallRequest {
    /// The release's name.
    pub release: String,
    /// The release's revision with which the hook was rendered: the newest record is this one or a later one.
    pub revision: u32,
    /// Which process asks.
    pub by: String,
    /// Another number every few seconds.
    pub beat: u64,
}

/// How far an uninstallation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UninstallState {
    /// Not every node is clean yet.
    #[default]
    Running,
    /// Nothing is left.
    Done,
    /// The leader does not follow the request.
    Refused,
}

/// A node that an uninstallation waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its name.
    pub node: String,
    /// Why it is not clean, and what to do about it.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_read_as_they_are_told_to_users() {
        let text = r#"{"state":"running","cleaned":["a"],"waiting":[{"node":"b","why":"its agent is not connected"}]}"#;
        let uninstall: Uninstall = serde_json::from_str(text).expect("the documented form");
        assert_eq!(uninstall.state, UninstallState::Running);
        assert_eq!(serde_json::to_string(&uninstall).expect("plain data"), text);

        let text = r#"{"version":"1","nodeCidrs":"weft","pools":[{"cidr":"10.244.0.0/16","nodePrefix":24}]}"#;
        let allocation: Allocation = serde_json::from_str(text).expect("the documented form");
        assert_eq!(serde_json::to_string(&allocation).expect("plain data"), text);
    }
}
