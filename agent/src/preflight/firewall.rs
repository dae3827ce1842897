//! Firewalls that drop forwarded packets.
//!
//! Whether a chain's rules accept pods' packets all the same cannot be told without running them, so these are
//! warnings.

use rustix::io::Errno;
use weft_core::types::Family;

use super::{Finding, Input, unread, warning};
use crate::kernel::{
    KernelError,
    nft::{Dropper, Nft},
};

pub(super) async fn check(nft: &mut Nft, input: &Input) -> Vec<Finding> {
    let mut findings = match nft.droppers().await {
        Ok(droppers) => droppers.iter().filter_map(|dropper| judge(dropper, input)).collect(),
        // nfnetlink tells nothing without CAP_NET_ADMIN; that it is missing is a finding of its own.
        Err(KernelError::Refused { errno, .. }) if errno == Errno::PERM.raw_os_error() => Vec::new(),
        Err(error) => vec![unread("other firewalls", &error)],
    };
    for (family, file, tool) in [
        (Family::V4, "/proc/net/ip_tables_names", "iptables-legacy"),
        (Family::V6, "/proc/net/ip6_tables_names", "ip6tables-legacy"),
    ] {
        let names = std::fs::read_to_string(file).unwrap_or_default();
        if input.may_carry(family) && names.lines().any(|name| name == "filter") {
            findings.push(legacy(tool));
        }
    }
    findings
}

fn judge(dropper: &Dropper, input: &Input) -> Option<Finding> {
    let families: Vec<Family> =
        Family::ALL.into_iter().filter(|family| dropper.concerns(*family) && input.may_carry(*family)).collect();
    if families.is_empty() {
        return None;
    }
    let Dropper { table_family, table, chain, by_policy } = dropper;
    let how = if *by_policy { "has policy drop" } else { "ends in a rule that drops everything" };
    let remedy = remedies(dropper, input, &families).join("; ");
    Some(warning(
        "FirewallDropsForwarded",
        format!(
            "nftables chain {chain} of table {table_family} {table} is at hook forward and {how}: pods' packets \
         are lost unless one of its rules accepts them; accept the pools there, with the tool that owns the table \
         so that it lasts: {remedy}"
        ),
    ))
}

/// Commands that accept the pools in the chain.
fn remedies(dropper: &Dropper, input: &Input, families: &[Family]) -> Vec<String> {
    let Dropper { table_family, table, chain, .. } = dropper;
    let pools: Vec<(Family, String)> = match &input.settings {
        Some(settings) => settings.pools.iter().map(|pool| (pool.family(), pool.to_string())).collect(),
        None => families.iter().map(|family| (*family, "POOL".to_owned())).collect(),
    };
    let wanted = pools.iter().filter(|(family, _)| families.contains(family));
    wanted
        .flat_map(|(family, pool)| {
            let ip = if *family == Family::V4 { "ip" } else { "ip6" };
            ["saddr", "daddr"]
                .map(|end| format!("nft insert rule {table_family} {table} {chain} {ip} {end} {pool} accept"))
        })
        .collect()
}

fn legacy(tool: &str) -> Finding {
    warning(
        "LegacyFirewall",
        format!(
            "the old packet filter has a filter table, whose policy cannot be read here: see that `{tool} -S \
         FORWARD` does not begin with `-P FORWARD DROP`, or accept the pools there ({tool} -I FORWARD -s POOL -j \
         ACCEPT and -d POOL)"
        ),
    )
}
