//! How an agent stands.
//!
//! Owns the form that scripts see. Must never leave out what the wire says.

use serde::Serialize;
use weft_proto::{
    convert::{cidr, networks},
    v1,
};

use super::revision;
use crate::output::rfc3339;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Agent {
    pub(super) node: String,
    version: String,
    pub(super) ready: bool,
    reason: String,
    pub(super) message: String,
    revision: Option<String>,
    controller: String,
    controller_connected: bool,
    controller_message: String,
    underlay_interface: String,
    underlay_addresses: Vec<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
    pods: u32,
    kernel_objects: u32,
    repaired_objects: u64,
    last_repair: Option<String>,
    dropped_tunnel_packets_from_pods: u64,
    dropped_tunnel_packets_from_strangers: u64,
    dropped_forged_tunnel_packets: u64,
    dropped_forged_packets_from_pods: u64,
    dropped_packets_to_gateway: u64,
    pod_addresses: Vec<AddressUse>,
    foreign_plugins: Vec<String>,
    warnings: Vec<String>,
}

impl Agent {
    pub(super) fn new(wire: &v1::GetAgentStatusResponse) -> anyhow::Result<Self> {
        let texts = |field, list: &[v1::Cidr]| -> anyhow::Result<Vec<String>> {
            Ok(networks(field, list)?.iter().map(ToString::to_string).collect())
        };
        Ok(Self {
            node: wire.node.clone(),
            version: wire.version.clone(),
            ready: wire.ready,
            reason: wire.reason.clone(),
            message: wire.message.clone(),
            revision: wire.applied.map(revision),
            controller: wire.controller.clone(),
            controller_connected: wire.controller_connected,
            controller_message: wire.controller_message.clone(),
            underlay_interface: wire.underlay_interface.clone(),
            underlay_addresses: texts("underlay_addresses", &wire.underlay_addresses)?,
            pod_cidrs: texts("pod_cidrs", &wire.pod_cidrs)?,
            pods: wire.pods,
            kernel_objects: wire.objects,
            repaired_objects: wire.repairs,
            last_repair: rfc3339(wire.last_repair_unix_ms),
            dropped_tunnel_packets_from_pods: wire.dropped_from_pods,
            dropped_tunnel_packets_from_strangers: wire.dropped_from_strangers,
            dropped_forged_tunnel_packets: wire.forged_tunnel_packets,
            dropped_forged_packets_from_pods: wire.forged_by_pods,
            dropped_packets_to_gateway: wire.pods_to_gateway,
            pod_addresses: wire.pod_addresses.iter().map(AddressUse::new).collect::<Result<_, _>>()?,
            foreign_plugins: wire.foreign_plugins.clone(),
            warnings: wire.warnings.clone(),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AddressUse {
    cidr: String,
    held: u64,
    usable: u64,
}

impl AddressUse {
    fn new(wire: &v1::AddressUse) -> anyhow::Result<Self> {
        let cidr = cidr("pod_addresses.cidr", &wire.cidr.clone().unwrap_or_default())?;
        Ok(Self { cidr: cidr.to_string(), held: wire.held, usable: wire.usable })
    }
}
