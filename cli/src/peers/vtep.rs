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
    use weft_proto::v1;

    use super::*;

    fn vtep(value: Value) -> DeserializeGuard<Vtep> {
        serde_json::from_value(value).expect("an object")
    }

    fn network(address: [u8; 4], prefix: u32) -> v1::Cidr {
        v1::Cidr { address: address.to_vec(), prefix }
    }

    /// One node, as a controller answers and as it writes the Vtep.
    fn both(state: v1::PeerState, reason: &str, message: &str) -> (v1::Peer, DeserializeGuard<Vtep>) {
        let path = |family: v1::Family, direct, vxlan, unreached| v1::FamilyPath {
            family: family.into(),
            direct_nodes: direct,
            vxlan_nodes: vxlan,
            unreached_nodes: unreached,
            ..Default::default()
        };
        let mut six = [0; 16];
        six[..8].copy_from_slice(&[0xfd, 0, 0, 0x10, 0x02, 0x44, 0, 1]);
        let peer = v1::Peer {
            node: "worker-1".to_owned(),
            pod_cidrs: vec![network([10, 244, 1, 0], 24), v1::Cidr { address: six.to_vec(), prefix: 64 }],
            underlay_addresses: vec![network([192, 0, 2, 7], 24)],
            paths: vec![path(v1::Family::Ipv4, 1, 2, 0), path(v1::Family::Ipv6, 0, 2, 1)],
            state: state.into(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            since_unix_ms: 1_700_000_000_000,
            revision_lag: 3,
            mac: vec![2, 0x57, 0, 0, 0, 1],
            agent_version: "0.1.0".to_owned(),
            underlay_mtu: 1500,
            applied: Some(v1::Revision { epoch: 1_700_000_000, sequence: 12 }),
        };
        let vtep = vtep(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "Vtep", "metadata": {"name": "worker-1"},
            "spec": {
                "nodeUid": "7", "incarnation": 1, "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
                "mac": "02:57:00:00:00:01", "underlay": [{"address": "192.0.2.7/24"}], "underlayMTU": 1500,
                "agentVersion": "0.1.0",
            },
            "status": {
                "state": super::super::row::state(state), "reason": reason, "message": message,
                "since": "2023-11-14T22:13:20Z", "revisionLag": 3,
                "applied": {"epoch": 1_700_000_000, "sequence": 12}, "appliedRevision": "1700000000.12",
                "reach": [
                    {"family": "ipv4", "direct": 1, "vxlan": 2, "unreached": 0},
                    {"family": "ipv6", "direct": 0, "vxlan": 2, "unreached": 1},
                ],
            },
        }));
        (peer, vtep)
    }

    #[test]
    fn both_answerers_show_the_same() {
        for (state, reason, message) in [
            (v1::PeerState::Ready, "", ""),
            (v1::PeerState::Pending, "NeverConnected", "start weft-agent on it"),
            (v1::PeerState::Disconnected, "AgentDisconnected", "its agent is not connected"),
            (v1::PeerState::Degraded, "ForeignRoute", "a route is in the way"),
            (v1::PeerState::Unreachable, "ProbeLost", "no answer to probes from a"),
        ] {
            let (peer, vtep) = both(state, reason, message);
            let (wire, kubernetes) = (Row::new(&peer).expect("a valid row"), Row::from_vtep(&vtep));
            assert_eq!(kubernetes, wire, "{state:?}");
            let json = |row: &Row| serde_json::to_string(row).expect("plain data");
            assert_eq!(json(&kubernetes), json(&wire), "{state:?}");
        }
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
