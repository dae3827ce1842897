//! Others' routes into the tunnel.
//!
//! The agent itself removes what others put onto the tunnel device into table main and what leads nowhere else. A route in a
//! table of somebody's own, or one with several ways, may be part of something larger: those are named, and left alone.

use weft_core::{settings::Settings, types::LinkName};

use super::{
    Finding,
    host::{Host, MAIN_TABLE},
    warning,
};

pub(super) fn check(settings: &Settings, device: LinkName, host: &Host) -> Vec<Finding> {
    let is_for_pods = |to: &ipnetwork::IpNetwork| settings.pools.iter().any(|pool| pool.contains(to.ip()));
    let others = host.into_tunnel.iter().filter(|(to, _)| to.prefix() == 0 || !is_for_pods(to));
    others
        .map(|(to, table)| {
            let of_table = if *table == MAIN_TABLE { String::new() } else { format!(" table {table}") };
            let family = if to.is_ipv6() { " -6" } else { "" };
            let text = format!(
                "route {to}{of_table} leads into the tunnel by {device}, where no peer takes what is not in the pools: \
                 remove it (ip{family} route delete {to}{of_table} dev {device}), and tell the program that made it to leave \
                 {device} alone"
            );
            warning("RouteIntoTunnel", text)
        })
        .collect()
}
