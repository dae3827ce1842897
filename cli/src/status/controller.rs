//! How a controller stands.
//!
//! Owns the form that scripts see. Must never leave out what the wire says.

use serde::Serialize;
use weft_proto::{convert::cidr, v1};

use super::revision;
use crate::output::rfc3339;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Controller {
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    awaited_agents: Vec<String>,
    started: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pool {
    cidr: String,
    node_prefix: u32,
    used: u64,
    quarantined: u64,
    total: u64,
}

impl Controller {
    pub(super) fn new(wire: &v1::GetStatusResponse) -> anyhow::Result<Self> {
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
            awaited_agents: wire.awaited_agents.clone(),
            started: rfc3339(wire.started_unix_ms),
        })
    }
}
