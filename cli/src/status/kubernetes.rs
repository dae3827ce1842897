//! How a cluster on Kubernetes stands.
//!
//! Owns the form that scripts see, with the names that a standalone controller's status has. Must never show a count that
//! somebody wrote down where the objects themselves can be counted.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use weft_api::{Allocation, ConditionType, RevisionStatus, Uninstall, Vtep, names};

use super::pools::{self, Pool};
use crate::kubernetes::{
    Cluster,
    leader::{self, Leader},
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kubernetes {
    server: String,
    namespace: String,
    /// Version of the leader.
    version: Option<String>,
    leader: Option<Leader>,
    epoch: Option<u64>,
    #[serde(flatten)]
    progress: Progress,
    #[serde(flatten)]
    settings: Settings,
    /// Who allocates pod CIDRs.
    node_cidrs: Option<String>,
    pools: Vec<Pool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uninstall: Option<Uninstall>,
    /// Objects that this program cannot read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
}

/// What the Vteps say together.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    revision: Option<String>,
    /// Every connected agent's kernel was read back to hold all of it up to here.
    acknowledged: Option<String>,
    members: usize,
    connected: usize,
    /// Nodes that are gone and not let go by every agent yet.
    departed: usize,
}

/// The cluster's settings, as its ConfigMap has them.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    mode: Option<String>,
    vni: Option<u32>,
    port: Option<u32>,
    #[serde(deserialize_with = "family")]
    outer_family: Option<u8>,
}

/// 4 or 6, as a standalone controller's status has it.
fn family<'de, D: Deserializer<'de>>(text: D) -> Result<Option<u8>, D::Error> {
    match String::deserialize(text)?.as_str() {
        "ipv4" => Ok(Some(4)),
        "ipv6" => Ok(Some(6)),
        other => Err(D::Error::custom(format!("family {other:?} is neither ipv4 nor ipv6"))),
    }
}

impl Kubernetes {
    /// Reads everything; and why nobody leads, where nobody does.
    pub(super) async fn ask(cluster: &Cluster) -> anyhow::Result<(Self, Option<String>)> {
        // The resources first: where they are missing, so is everything, and that is what to say.
        let vteps = cluster.vteps().await?;
        let (claims, lease, data) = tokio::try_join!(cluster.claims(), cluster.lease(), cluster.cluster())?;
        let mut unreadable = Vec::new();
        let vteps = pools::readable("Vtep", vteps, &mut unreadable);
        let claims = pools::readable("PodCidrClaim", claims, &mut unreadable);
        let allocation: Option<Allocation> = value(&data, names::ALLOCATION, &mut unreadable);
        let epoch = value(&data, names::EPOCH, &mut unreadable);
        let known = allocation.unwrap_or_default();
        let status = Self {
            server: cluster.server().to_owned(),
            namespace: cluster.namespace().to_owned(),
            version: Some(known.version).filter(|version| !version.is_empty()),
            leader: leader::holder(&lease),
            epoch,
            progress: Progress::of(&vteps, epoch),
            settings: value(&data, names::SETTINGS, &mut unreadable).unwrap_or_default(),
            node_cidrs: Some(known.node_cidrs).filter(|who| !who.is_empty()),
            pools: pools::usage(&known.pools, &claims, &vteps, &mut unreadable),
            uninstall: value(&data, names::UNINSTALL, &mut unreadable),
            unreadable,
        };
        Ok((status, leader::absence(&lease, SystemTime::now())))
    }
}

/// A value of the cluster's ConfigMap; none where it is not written yet.
fn value<T: DeserializeOwned>(data: &ConfigMap, key: &str, unreadable: &mut Vec<String>) -> Option<T> {
    let text = data.data.as_ref()?.get(key)?;
    let read = serde_json::from_str(text);
    read.map_err(|error| unreadable.push(format!("{key} of ConfigMap {}: {error}", names::CLUSTER))).ok()
}

impl Progress {
    fn of(vteps: &[Vtep], epoch: Option<u64>) -> Self {
        let members: Vec<&Vtep> = vteps.iter().filter(|vtep| !vtep.spec.departed).collect();
        let connected: Vec<&Vtep> = members.iter().copied().filter(|vtep| is_connected(vtep)).collect();
        // Revisions of an earlier term say nothing about how far this one is.
        let applied = |vtep: &Vtep| -> Option<RevisionStatus> {
            vtep.status.as_ref()?.applied.clone().filter(|applied| epoch.is_none_or(|epoch| applied.epoch == epoch))
        };
        let lag = |vtep: &Vtep| vtep.status.as_ref().map_or(0, |status| status.revision_lag);
        let newest = members.iter().filter_map(|vtep| Some((applied(vtep)?, lag(vtep))));
        let newest = newest.map(|(applied, lag)| (applied.epoch, applied.sequence.saturating_add(lag))).max();
        let confirmed: Option<Vec<_>> = connected.iter().map(|vtep| applied(vtep)).collect();
        let oldest = confirmed.and_then(|all| all.iter().map(|applied| (applied.epoch, applied.sequence)).min());
        let text = |(epoch, sequence): (u64, u64)| format!("{epoch}.{sequence}");
        Self {
            revision: newest.map(text),
            acknowledged: oldest.map(text),
            members: members.len(),
            connected: connected.len(),
            departed: vteps.len() - members.len(),
        }
    }
}

fn is_connected(vtep: &Vtep) -> bool {
    let conditions = vtep.status.as_ref().map_or(&[][..], |status| &status.conditions);
    conditions.iter().any(|found| found.type_ == ConditionType::Connected.as_str() && found.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vtep(name: &str, sequence: Option<u64>, lag: u64, connected: &str) -> Vtep {
        let applied = sequence.map(|sequence| json!({"epoch": 7, "sequence": sequence}));
        serde_json::from_value(json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "Vtep", "metadata": {"name": name},
            "spec": {"nodeUid": name, "incarnation": 1, "mac": "02:57:00:00:00:01"},
            "status": {"revisionLag": lag, "applied": applied, "conditions": [{
                "type": "Connected", "status": connected, "reason": "x", "message": "",
                "lastTransitionTime": "2023-11-14T22:13:20Z",
            }]},
        }))
        .expect("a Vtep")
    }

    #[test]
    fn vteps_tell_how_far_the_term_is() {
        let vteps = [vtep("a", Some(12), 0, "True"), vtep("b", Some(9), 3, "True"), vtep("c", Some(4), 8, "False")];
        let progress = Progress::of(&vteps, Some(7));
        assert_eq!(progress.revision.as_deref(), Some("7.12"));
        assert_eq!(progress.acknowledged.as_deref(), Some("7.9"), "who is not connected does not count");
        assert_eq!((progress.members, progress.connected), (3, 2));
    }

    #[test]
    fn settings_have_the_names_of_a_standalone_controller() {
        let text = r#"{"pools":["10.244.0.0/16"],"mode":"crossSubnet","vni":87,"port":4789,"outerFamily":"ipv6"}"#;
        let data: ConfigMap = serde_json::from_value(json!({"data": {"settings": text, "epoch": "x"}})).expect("a map");
        let mut unreadable = Vec::new();
        let settings: Settings = value(&data, names::SETTINGS, &mut unreadable).expect("the leader's form");
        let shown = serde_json::to_value(settings).expect("plain data");
        assert_eq!(shown, json!({"mode": "crossSubnet", "vni": 87, "port": 4789, "outerFamily": 6}));
        assert_eq!(value::<u64>(&data, names::EPOCH, &mut unreadable), None);
        assert!(unreadable[0].starts_with("epoch of ConfigMap weft-cluster: "), "{unreadable:?}");
    }

    #[test]
    fn a_term_nobody_has_confirmed_has_no_revision() {
        let vteps = [vtep("a", Some(12), 0, "True")];
        assert_eq!(Progress::of(&vteps, Some(8)).revision, None, "that was the term before");
        let vteps = [vtep("a", Some(12), 0, "True"), vtep("b", None, 12, "True")];
        assert_eq!(Progress::of(&vteps, Some(7)).acknowledged, None, "b has confirmed nothing");
    }
}
