//! A Vtep as a row of the peer list.
//!
//! Owns the conversion: a script that reads the list must not see whether a controller or the Kubernetes API answered.
//! Must never judge anew: the status says how the node stands, and an object that cannot be read says so itself.

use kube::core::DeserializeGuard;
use weft_api::{FamilyReach, Vtep, VtepState, VtepStatus};

use super::row::{Nodes, Path, Row};
use crate::output::rfc3339;

impl Row {
    /// Reads a Vtep.
    pub(crate) fn from_vtep(vtep: &DeserializeGuard<Vtep>) -> Self {
        match &vtep.0 {
            Ok(vtep) => Self::of(vtep),
            Err(error) => {
                let name = error.metadata.name.clone().unwrap_or_default();
                let message = format!(
                    "Vtep {name} cannot be read by this version of weft ({}): compare it with the controller's",
                    error.error
                );
                Self { reason: "InvalidVtep".to_owned(), message, ..Self::unknown(name) }
            }
        }
    }

    fn of(vtep: &Vtep) -> Self {
        let spec = &vtep.spec;
        let known = Self {
            pod_cidrs: spec.pod_cidrs.clone(),
            underlay_addresses: spec.underlay.iter().map(|underlay| underlay.address.clone()).collect(),
            mac: spec.mac.clone(),
            underlay_mtu: spec.underlay_mtu,
            agent_version: spec.agent_version.clone(),
            ..Self::unknown(vtep.metadata.name.clone().unwrap_or_default())
        };
        match &vtep.status {
            Some(status) => known.standing(status),
            None => Self {
                reason: "NoStatus".to_owned(),
                message: "the leading controller has not said yet how it stands: see `weft status`".to_owned(),
                ..known
            },
        }
    }

    fn standing(self, status: &VtepStatus) -> Self {
        let since_unix_ms = status.since.as_ref().map_or(0, |since| since.0.as_millisecond());
        let revision = status.applied.as_ref().map(|applied| format!("{}.{}", applied.epoch, applied.sequence));
        Self {
            paths: status.reach.iter().filter_map(Path::counted).collect(),
            state: state(status.state),
            reason: status.reason.clone(),
            message: status.message.clone(),
            since: rfc3339(since_unix_ms),
            revision_lag: status.revision_lag,
            applied_revision: revision,
            since_unix_ms,
            ..self
        }
    }

    fn unknown(node: String) -> Self {
        Self {
            node,
            pod_cidrs: Vec::new(),
            underlay_addresses: Vec::new(),
            paths: Vec::new(),
            state: "Unknown",
            reason: String::new(),
            message: String::new(),
            since: None,
            revision_lag: 0,
            applied_revision: None,
            mac: String::new(),
            underlay_mtu: 0,
            agent_version: String::new(),
            since_unix_ms: 0,
        }
    }
}

impl Path {
    fn counted(reach: &FamilyReach) -> Option<Self> {
        let family = match reach.family.as_str() {
            "ipv4" => 4,
            "ipv6" => 6,
            _ => return None,
        };
        let nodes = Nodes { direct: reach.direct, vxlan: reach.vxlan, none: reach.unreached };
        Some(Self { family, path: None, rtt_us: None, nodes: Some(nodes) })
    }
}

const fn state(state: VtepState) -> &'static str {
    match state {
        VtepState::Pending => "Pending",
        VtepState::Ready => "Ready",
        VtepState::Disconnected => "Disconnected",
        VtepState::Degraded => "Degraded",
        VtepState::Unreachable => "Unreachable",
        VtepState::Departed => "Departed",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn vtep(value: Value) -> DeserializeGuard<Vtep> {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn one_that_cannot_be_read_is_a_row_of_its_own() {
        let broken = vtep(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "Vtep", "metadata": {"name": "worker-2"},
            "spec": {"nodeUid": "7", "incarnation": 1, "mac": "02:57:00:00:00:01"},
            "status": {"state": "Levitating"},
        }));
        let row = Row::from_vtep(&broken);
        assert_eq!((row.node.as_str(), row.state, row.reason.as_str()), ("worker-2", "Unknown", "InvalidVtep"));
        assert!(row.message.contains("Levitating"), "{}", row.message);
    }

    #[test]
    fn one_without_a_status_says_so() {
        let bare = vtep(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "Vtep", "metadata": {"name": "worker-3"},
            "spec": {"nodeUid": "7", "incarnation": 1, "mac": "02:57:00:00:00:01"},
        }));
        let row = Row::from_vtep(&bare);
        assert_eq!((row.state, row.reason.as_str(), row.since), ("Unknown", "NoStatus", None));
    }
}
