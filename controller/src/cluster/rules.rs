//! What the cluster is run with.
//!
//! Owns the choice of what the cluster needs to know of a configuration. Must never hold what changes while it runs.

use std::time::Duration;

use ipnetwork::IpNetwork;
use weft_core::{alloc::PoolRule, settings::Settings};

use super::{AdmissionRule, admission::Admission};
use crate::config::{Config, StoreLocation};

/// What the cluster is run with.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// What all nodes share.
    pub(crate) settings: Settings,
    /// Announced even where some agents are too old for them.
    pub(crate) force_settings: bool,
    /// No node is announced with a larger MTU in bytes; none: with what it reports.
    pub(crate) mtu: Option<u32>,
    /// Where pod CIDRs come from, and for which nodes.
    pub(crate) pools: Vec<PoolRule>,
    /// Where an underlay address may lie that no stream proves; none: beside those that are proven.
    pub(crate) underlay_networks: Vec<IpNetwork>,
    /// How nodes become members.
    pub(crate) admission: AdmissionRule,
    /// An agent that has not acknowledged for this long is disconnected.
    pub(crate) acknowledge_timeout: Duration,
    /// After a start, quarantined CIDRs stay there for at least this long, for agents that are still reconnecting.
    pub(crate) reconnect_grace: Duration,
    /// So long after its end a life of a name is remembered: no certificate of it counts any more then. A join token that was used
    /// is good for its key no longer either.
    pub(crate) lives_kept: Duration,
    /// Changes within this time are announced together.
    pub(crate) coalesce: Duration,
}

impl Rules {
    /// As it is configured.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            settings: config.settings.clone(),
            force_settings: config.force_settings,
            mtu: config.mtu,
            underlay_networks: config.underlay_networks.clone(),
            pools: config.pools.clone(),
            admission: match &config.store {
                StoreLocation::Redb(_) => AdmissionRule::Tokens,
                StoreLocation::Kubernetes(own) => AdmissionRule::Nodes(own.node_cidrs),
            },
            acknowledge_timeout: config.acknowledge_timeout,
            reconnect_grace: config.reconnect_grace,
            lives_kept: config.certificate_lifetime + config.renewal_grace,
            coalesce: config.coalesce_window,
        }
    }

    /// [`Self::admission`] that knows nothing yet.
    pub(super) fn admission(&self) -> Admission {
        Admission::new(self.admission, self.settings.outer())
    }

    /// [`Self::lives_kept`] in seconds.
    pub(crate) fn kept_seconds(&self) -> i64 {
        i64::try_from(self.lives_kept.as_secs()).unwrap_or(i64::MAX)
    }
}
