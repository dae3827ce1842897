//! The peer list as people and scripts see it, compared with files.
//!
//! Owns one cluster, told by a controller, by the Kubernetes API and by an agent. A difference is a change for every
//! script that reads the list: where it is meant, write the files anew with `WEFT_GOLDEN=write cargo test -p weft-cli`.

use std::{
    env, fs,
    path::Path,
    time::{Duration, SystemTime},
};

use kube::core::DeserializeGuard;
use serde_json::{Value, json};
use weft_api::Vtep;
use weft_proto::v1::{self, PeerState};

use super::{render, row, row::Row};
use crate::args::{Output, PeersArgs};

/// 2023-11-14T22:13:20Z.
const SINCE: u64 = 1_700_000_000;
const EPOCH: u64 = 1_699_990_000;

/// How a node stands: name, number, state, reason, message, acknowledged sequence.
type Node = (&'static str, u8, PeerState, &'static str, &'static str, Option<u64>);

const NODES: [Node; 5] = [
    ("control-plane", 1, PeerState::Ready, "", "", Some(12)),
    (
        "worker-a",
        2,
        PeerState::Disconnected,
        "AgentDisconnected",
        "its agent is not connected; it still answers probes of 3 nodes",
        Some(9),
    ),
    ("worker-b", 3, PeerState::Unreachable, "ProbeLost", "no answer to probes from worker-a", Some(12)),
    ("worker-c", 4, PeerState::Degraded, "ForeignRoute", "a \"foreign\" route\nis in the \u{1b}[31mway", Some(12)),
    ("worker-d", 5, PeerState::Pending, "NeverConnected", "its agent never opened a stream: start it", None),
];

fn ipv4(address: [u8; 4], prefix: u32) -> v1::Cidr {
    v1::Cidr { address: address.to_vec(), prefix }
}

fn ipv6(number: u8) -> v1::Cidr {
    let mut address = [0; 16];
    address[..8].copy_from_slice(&[0xfd, 0, 0, 0x10, 0x02, 0x44, 0, number]);
    v1::Cidr { address: address.to_vec(), prefix: 64 }
}

/// As a controller tells it.
fn told_by_controller() -> Vec<v1::Peer> {
    let path = |family: v1::Family, direct, vxlan, unreached| v1::FamilyPath {
        family: family.into(),
        direct_nodes: direct,
        vxlan_nodes: vxlan,
        unreached_nodes: unreached,
        ..Default::default()
    };
    let peer = |(name, number, state, reason, message, applied): Node| {
        let facts = applied.is_some();
        v1::Peer {
            node: name.to_owned(),
            pod_cidrs: vec![ipv4([10, 244, number, 0], 24), ipv6(number)],
            underlay_addresses: facts.then(|| ipv4([192, 0, 2, number], 24)).into_iter().collect(),
            paths: vec![path(v1::Family::Ipv4, 1, 3, 0), path(v1::Family::Ipv6, 0, 3, 1)],
            state: state.into(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            since_unix_ms: i64::try_from(SINCE * 1_000).expect("a time of these days"),
            revision_lag: 12 - applied.unwrap_or_default(),
            mac: vec![2, 0x57, 0, 0, 0, number],
            agent_version: if facts { "0.1.0".to_owned() } else { String::new() },
            underlay_mtu: if facts { 1500 } else { 0 },
            applied: applied.map(|sequence| v1::Revision { epoch: EPOCH, sequence }),
        }
    };
    NODES.into_iter().map(peer).collect()
}

/// The same as the leader writes it into Vteps.
fn told_by_kubernetes() -> Vec<DeserializeGuard<Vtep>> {
    let vtep = |(name, number, state, reason, message, applied): Node| {
        let facts = applied.is_some();
        let underlay: Vec<Value> =
            facts.then(|| json!({"address": format!("192.0.2.{number}/24")})).into_iter().collect();
        let object = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "Vtep", "metadata": {"name": name},
            "spec": {
                "nodeUid": name, "incarnation": 1, "mac": format!("02:57:00:00:00:{number:02x}"),
                "podCIDRs": [format!("10.244.{number}.0/24"), format!("fd00:10:244:{number:x}::/64")],
                "underlay": underlay, "underlayMTU": if facts { 1500 } else { 0 },
                "agentVersion": if facts { "0.1.0" } else { "" },
            },
            "status": {
                "state": row::state(state), "reason": reason, "message": message, "since": "2023-11-14T22:13:20Z",
                "revisionLag": 12 - applied.unwrap_or_default(),
                "applied": applied.map(|sequence| json!({"epoch": EPOCH, "sequence": sequence})),
                "reach": [
                    {"family": "ipv4", "direct": 1, "vxlan": 3, "unreached": 0},
                    {"family": "ipv6", "direct": 0, "vxlan": 3, "unreached": 1},
                ],
            },
        });
        serde_json::from_value(object).expect("an object")
    };
    NODES.into_iter().map(vtep).collect()
}

/// As the agent of worker-a tells it: its own row, one through the tunnel, one by the plain route, one not at all.
fn told_by_agent() -> Vec<v1::Peer> {
    let ways = [(v1::Path::Vxlan, 412), (v1::Path::Local, 0), (v1::Path::Direct, 80), (v1::Path::None, 0)];
    let mut peers: Vec<_> = told_by_controller().into_iter().take(ways.len()).collect();
    for (peer, (path, rtt_us)) in peers.iter_mut().zip(ways) {
        let way = v1::FamilyPath { family: v1::Family::Ipv4.into(), path: path.into(), rtt_us, ..Default::default() };
        peer.paths = vec![way];
        peer.applied = None;
        peer.revision_lag = 0;
    }
    peers
}

fn rows(peers: &[v1::Peer]) -> Vec<Row> {
    peers.iter().map(|peer| Row::new(peer).expect("a valid row")).collect()
}

/// Compares with a file beside this one, or writes it.
fn compare(name: &str, rows: &[Row], output: Output, watch: bool) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(SINCE + 7_500);
    let text = render(rows, &PeersArgs { output, watch }, now).expect("plain data");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/peers/golden").join(name);
    if env::var_os("WEFT_GOLDEN").is_some_and(|what| what == "write") {
        fs::write(&path, text).expect("a writable checkout");
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(text, golden, "{name} differs: is that meant?");
}

#[test]
fn scripts_read_what_they_always_read() {
    let controller = rows(&told_by_controller());
    compare("controller.json", &controller, Output::Json, false);
    compare("watched.json", &controller, Output::Json, true);
    compare("controller.yaml", &controller, Output::Yaml, false);
    compare("agent.json", &rows(&told_by_agent()), Output::Json, false);
}

#[test]
fn people_see_what_they_always_saw() {
    let controller = rows(&told_by_controller());
    compare("controller.txt", &controller, Output::Table, false);
    compare("wide.txt", &controller, Output::Wide, false);
    compare("agent.txt", &rows(&told_by_agent()), Output::Table, false);
}

#[test]
fn kubernetes_tells_what_a_controller_tells() {
    let (controller, kubernetes) = (rows(&told_by_controller()), told_by_kubernetes());
    let kubernetes: Vec<Row> = kubernetes.iter().map(Row::from_vtep).collect();
    assert_eq!(kubernetes, controller);
    compare("controller.json", &kubernetes, Output::Json, false);
    compare("wide.txt", &kubernetes, Output::Wide, false);
}
