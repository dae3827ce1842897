//! What a firewall does to Weft's packets, and how to stop it, in the words of the tool that owns it.
//!
//! Owns the commands. Must never name one that is lost when the tool loads its rules again, where the tool has a lasting one.

use weft_core::types::Family;

use super::{
    super::{Finding, Input, warning},
    Dropper, Loss, Sample,
};

/// What is lost, as the subject of a sentence.
pub(super) fn lost(samples: &[Sample], input: &Input) -> String {
    let mut lost: Vec<String> = Vec::new();
    for sample in samples {
        let link = &sample.link;
        let one = match (sample.is_tunnel, sample.packet.by.is_some()) {
            (true, true) => format!("the tunnel's packets (UDP port {}) that come in by {link}", sample.packet.port),
            (true, false) => format!("the tunnel's packets (UDP port {}) that leave by {link}", sample.packet.port),
            (false, _) => format!("packets of pods by {link}{}", of_family(sample, input)),
        };
        if !lost.contains(&one) {
            lost.push(one);
        }
    }
    lost.join(", ")
}

/// Which family, where there are two.
fn of_family(sample: &Sample, input: &Input) -> String {
    let both = Family::ALL.into_iter().all(|family| input.may_carry(family));
    if both { format!(" ({})", Family::of(sample.packet.source)) } else { String::new() }
}

/// The commands.
pub(super) fn remedy(loss: &Loss, input: &Input) -> String {
    let ports: Vec<u16> = loss.samples.iter().filter(|sample| sample.is_tunnel).map(|s| s.packet.port).collect();
    let port = ports.first().copied();
    let families: Vec<Family> =
        loss.samples.iter().filter(|sample| !sample.is_tunnel).map(|s| Family::of(s.packet.source)).collect();
    let settings = input.settings.iter();
    let pools = settings.flat_map(|settings| settings.pools.iter()).filter(|pool| families.contains(&pool.family()));
    let pools: Vec<(Family, String)> = pools.map(|pool| (pool.family(), pool.to_string())).collect();
    let dropper = &loss.dropper;
    if dropper.table == "firewalld" {
        return firewalld(port, &pools, &loss.samples);
    }
    if dropper.of_ufw {
        return ufw(port, &pools);
    }
    match dropper.table_family {
        family @ ("ip" | "ip6") if dropper.chain.chars().all(|letter| letter.is_ascii_uppercase()) => {
            let tool = if family == "ip" { "iptables" } else { "ip6tables" };
            iptables(tool, &dropper.chain, port, &pools)
        }
        _ => nft(dropper, port, &pools),
    }
}

fn firewalld(port: Option<u16>, pools: &[(Family, String)], samples: &[Sample]) -> String {
    let mut commands: Vec<String> = Vec::new();
    if let Some(port) = port {
        let link =
            samples.iter().find(|sample| sample.is_tunnel).map(|sample| sample.link.as_str()).unwrap_or_default();
        commands.push(format!(
            "`firewall-cmd --permanent --add-port={port}/udp` (with --zone= where {link} is not in the default zone)"
        ));
    }
    commands
        .extend(pools.iter().map(|(_, pool)| format!("`firewall-cmd --permanent --zone=trusted --add-source={pool}`")));
    commands.push("`firewall-cmd --reload`".to_owned());
    format!("firewalld owns it: {}", commands.join(", then "))
}

fn ufw(port: Option<u16>, pools: &[(Family, String)]) -> String {
    let tunnel = port.map(|port| format!("`ufw allow proto udp to any port {port}`"));
    let pods = pools
        .iter()
        .flat_map(|(_, pool)| [format!("`ufw route allow from {pool}`"), format!("`ufw route allow to {pool}`")]);
    format!("ufw owns it: {}", tunnel.into_iter().chain(pods).collect::<Vec<_>>().join(", "))
}

fn iptables(tool: &str, chain: &str, port: Option<u16>, pools: &[(Family, String)]) -> String {
    let tunnel = port.map(|port| format!("`{tool} -I {chain} -p udp --dport {port} -j ACCEPT`"));
    let pods = pools.iter().flat_map(|(_, pool)| {
        [format!("`{tool} -I {chain} -s {pool} -j ACCEPT`"), format!("`{tool} -I {chain} -d {pool} -j ACCEPT`")]
    });
    let commands = tunnel.into_iter().chain(pods).collect::<Vec<_>>().join(", ");
    format!("accept them with {commands}, and keep that wherever this host keeps its rules")
}

fn nft(dropper: &Dropper, port: Option<u16>, pools: &[(Family, String)]) -> String {
    let Dropper { table_family, table, chain, .. } = dropper;
    let rule = |what: String| format!("`nft insert rule {table_family} {table} {chain} {what} accept`");
    let tunnel = port.map(|port| rule(format!("udp dport {port}")));
    let pods = pools.iter().flat_map(|(family, pool)| {
        let ip = if *family == Family::V4 { "ip" } else { "ip6" };
        ["saddr", "daddr"].map(|end| rule(format!("{ip} {end} {pool}")))
    });
    let commands = tunnel.into_iter().chain(pods).collect::<Vec<_>>().join(", ");
    format!("accept them with {commands}, and in the file that the table comes from, so that it lasts")
}

pub(super) fn legacy(tool: &str) -> Finding {
    warning(
        "LegacyFirewall",
        format!(
            "the old packet filter has a filter table, whose policy cannot be read here: see that `{tool} -S FORWARD` \
             does not begin with `-P FORWARD DROP`, or accept the pools there ({tool} -I FORWARD -s POOL -j ACCEPT and -d \
             POOL)"
        ),
    )
}
