//! A row of the peer list, in the form that scripts see.

use std::time::SystemTime;

use serde::Serialize;
use weft_core::types::Mac;
use weft_proto::{
    convert::{ConvertError, networks},
    v1,
};

use crate::output::{age, rfc3339};

/// A peer.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(super) node: String,
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: Vec<String>,
    pub(super) underlay_addresses: Vec<String>,
    pub(super) paths: Vec<Path>,
    pub(super) state: &'static str,
    pub(super) reason: String,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    pub(super) revision_lag: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) applied_revision: Option<String>,
    pub(super) mac: String,
    pub(super) underlay_mtu: u32,
    pub(super) agent_version: String,
    #[serde(skip)]
    pub(super) since_unix_ms: i64,
}

/// How one family is reached: from a node the path, from a controller how many nodes take which.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Path {
    pub(super) family: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rtt_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nodes: Option<Nodes>,
}

/// Nodes by the path they take.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Nodes {
    pub(super) direct: u32,
    pub(super) vxlan: u32,
    pub(super) none: u32,
}

impl Row {
    /// Reads a row of the wire.
    pub(crate) fn new(peer: &v1::Peer) -> Result<Self, ConvertError> {
        let texts = |field, list: &[v1::Cidr]| -> Result<Vec<String>, ConvertError> {
            Ok(networks(field, list)?.iter().map(ToString::to_string).collect())
        };
        Ok(Self {
            node: peer.node.clone(),
            pod_cidrs: texts("pod_cidrs", &peer.pod_cidrs)?,
            underlay_addresses: texts("underlay_addresses", &peer.underlay_addresses)?,
            paths: peer.paths.iter().filter_map(Path::new).collect(),
            state: state(peer.state()),
            reason: peer.reason.clone(),
            message: peer.message.clone(),
            since: rfc3339(peer.since_unix_ms),
            revision_lag: peer.revision_lag,
            applied_revision: peer.applied.map(|revision| format!("{}.{}", revision.epoch, revision.sequence)),
            mac: Mac::try_from(peer.mac.as_slice()).map(|mac| mac.to_string()).unwrap_or_default(),
            underlay_mtu: peer.underlay_mtu,
            agent_version: peer.agent_version.clone(),
            since_unix_ms: peer.since_unix_ms,
        })
    }

    /// The cells of its line.
    pub(crate) fn cells(&self, wide: bool, now: SystemTime) -> Vec<String> {
        let list = |list: &[String]| if list.is_empty() { "<none>".to_owned() } else { list.join(",") };
        let path = |family| {
            let path = self.paths.iter().find(|path| path.family == family);
            path.map_or_else(|| "-".to_owned(), Path::text)
        };
        let mut cells = vec![
            self.node.clone(),
            list(&self.pod_cidrs),
            list(&self.underlay_addresses),
            path(4),
            path(6),
            self.state.to_owned(),
            age(self.since_unix_ms, now),
            self.revision_lag.to_string(),
            self.reason.clone(),
        ];
        if wide {
            cells.extend([
                self.mac.clone(),
                self.underlay_mtu.to_string(),
                self.applied_revision.clone().unwrap_or_else(|| "-".to_owned()),
                self.agent_version.clone(),
            ]);
        }
        cells.push(self.message.clone());
        // Some of it comes from other machines: one line stays one line, and nothing steers the terminal.
        for cell in &mut cells {
            *cell = cell.replace(char::is_control, " ");
        }
        cells
    }
}

/// The names of the columns.
pub(crate) fn header(wide: bool) -> Vec<&'static str> {
    let mut header = vec!["NODE", "POD-CIDRS", "UNDERLAY", "IPV4", "IPV6", "STATE", "SINCE", "LAG", "REASON"];
    if wide {
        header.extend(["MAC", "MTU", "APPLIED", "VERSION"]);
    }
    header.push("MESSAGE");
    header
}

impl Path {
    fn new(wire: &v1::FamilyPath) -> Option<Self> {
        let family = match wire.family() {
            v1::Family::Ipv4 => 4,
            v1::Family::Ipv6 => 6,
            v1::Family::Unspecified => return None,
        };
        let path = match wire.path() {
            v1::Path::Vxlan => Some("vxlan"),
            v1::Path::Direct => Some("direct"),
            v1::Path::None => Some("none"),
            v1::Path::Local => Some("local"),
            v1::Path::Unspecified => None,
        };
        let nodes = path.is_none().then_some(Nodes {
            direct: wire.direct_nodes,
            vxlan: wire.vxlan_nodes,
            none: wire.unreached_nodes,
        });
        Some(Self { family, path, rtt_us: (wire.rtt_us > 0).then_some(wire.rtt_us), nodes })
    }

    fn text(&self) -> String {
        match (&self.path, &self.nodes, self.rtt_us) {
            (Some(path), _, Some(rtt)) => format!("{path} {rtt}us"),
            (Some(path), _, None) => (*path).to_owned(),
            (None, Some(nodes), _) => nodes.text(),
            (None, None, _) => "-".to_owned(),
        }
    }
}

impl Nodes {
    fn text(&self) -> String {
        let kinds = [("direct", self.direct), ("vxlan", self.vxlan), ("none", self.none)];
        let parts: Vec<_> =
            kinds.iter().filter(|(_, nodes)| *nodes > 0).map(|(kind, nodes)| format!("{kind}:{nodes}")).collect();
        if parts.is_empty() { "-".to_owned() } else { parts.join(" ") }
    }
}

pub(super) fn state(state: v1::PeerState) -> &'static str {
    match state {
        v1::PeerState::Unspecified => "Unknown",
        v1::PeerState::Ready => "Ready",
        v1::PeerState::Pending => "Pending",
        v1::PeerState::Disconnected => "Disconnected",
        v1::PeerState::Degraded => "Degraded",
        v1::PeerState::Unreachable => "Unreachable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_shows_paths_and_a_controller_shows_counts() {
        let own = v1::FamilyPath { family: 1, path: 1, rtt_us: 80, ..Default::default() };
        assert_eq!(Path::new(&own).expect("a family").text(), "vxlan 80us");
        let counted = v1::FamilyPath { family: 2, direct_nodes: 1, vxlan_nodes: 2, ..Default::default() };
        let counted = Path::new(&counted).expect("a family");
        assert_eq!(counted.text(), "direct:1 vxlan:2");
        let json = serde_json::to_value(&counted).expect("plain data");
        assert_eq!(json, serde_json::json!({"family": 6, "nodes": {"direct": 1, "vxlan": 2, "none": 0}}));
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_header() {
        let row = Row::new(&v1::Peer::default()).expect("empty is readable");
        for wide in [false, true] {
            assert_eq!(row.cells(wide, SystemTime::now()).len(), header(wide).len());
        }
    }
}
