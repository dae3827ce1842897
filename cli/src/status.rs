//! `weft status`.

use serde::Serialize;
use weft_proto::{
    convert::{cidr, networks},
    v1,
};

use crate::{
    args::{Output, Target},
    connect::{self, Answerer, refusal},
    output::{self, rfc3339},
};

/// Prints how a controller or an agent stands. An agent that is not ready makes the command fail, so that scripts see it.
pub(crate) async fn run(target: &Target, form: Output) -> anyhow::Result<()> {
    match connect::any(target).await? {
        Answerer::Controller(mut client) => {
            let answer = client.get_status(v1::GetStatusRequest {}).await.map_err(|status| refusal(&status))?;
            show(&Controller::new(&answer.into_inner())?, form)
        }
        Answerer::Agent(mut client) => {
            let answer = client.get_agent_status(v1::GetAgentStatusRequest {}).await;
            let agent = Agent::new(&answer.map_err(|status| refusal(&status))?.into_inner())?;
            show(&agent, form)?;
            anyhow::ensure!(agent.ready, "node {} is not ready: {}", agent.node, agent.message);
            Ok(())
        }
    }
}

/// A table here is the YAML: both are one fact a line.
fn show(status: &impl Serialize, form: Output) -> anyhow::Result<()> {
    match form {
        Output::Json => output::json(status, false),
        Output::Yaml | Output::Table | Output::Wide => output::yaml(status),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Controller {
    version: String,
    revision: Option<String>,
    acknowledged: Option<String>,
    members: u32,
    connected: u32,
    mode: String,
    vni: u32,
    port: u32,
    outer_family: u8,
    pools: Vec<Pool>,
    started: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Pool {
    cidr: String,
    node_prefix: u32,
    used: u64,
    quarantined: u64,
    total: u64,
}

impl Controller {
    fn new(wire: &v1::GetStatusResponse) -> anyhow::Result<Self> {
        let settings = wire.settings.clone().unwrap_or_default();
        let pool = |pool: &v1::PoolUsage| -> anyhow::Result<Pool> {
            Ok(Pool {
                cidr: cidr("pools.cidr", &pool.cidr.clone().unwrap_or_default())?.to_string(),
                node_prefix: pool.node_prefix,
                used: pool.used,
                quarantined: pool.quarantined,
                total: pool.total,
            })
        };
        let mode = match settings.mode() {
            v1::Mode::CrossSubnet => "crossSubnet",
            v1::Mode::Always => "always",
            v1::Mode::Never => "never",
            v1::Mode::Unspecified => "unknown",
        };
        Ok(Self {
            version: wire.version.clone(),
            revision: wire.revision.map(revision),
            acknowledged: wire.acknowledged.map(revision),
            members: wire.members,
            connected: wire.connected,
            mode: mode.to_owned(),
            vni: settings.vni,
            port: settings.port,
            outer_family: if settings.outer_family() == v1::Family::Ipv6 { 6 } else { 4 },
            pools: wire.pools.iter().map(pool).collect::<Result<_, _>>()?,
            started: rfc3339(wire.started_unix_ms),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Agent {
    node: String,
    version: String,
    ready: bool,
    reason: String,
    message: String,
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
    dropped_forged_packets_from_pods: u64,
    dropped_packets_to_gateway: u64,
    pod_addresses: Vec<AddressUse>,
    warnings: Vec<String>,
}

impl Agent {
    fn new(wire: &v1::GetAgentStatusResponse) -> anyhow::Result<Self> {
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
            dropped_forged_packets_from_pods: wire.forged_by_pods,
            dropped_packets_to_gateway: wire.pods_to_gateway,
            pod_addresses: wire.pod_addresses.iter().map(AddressUse::new).collect::<Result<_, _>>()?,
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

fn revision(wire: v1::Revision) -> String {
    format!("{}.{}", wire.epoch, wire.sequence)
}
