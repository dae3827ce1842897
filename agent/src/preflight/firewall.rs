//! Firewalls that drop the tunnel's packets or the pods'.
//!
//! Each packet that must get through goes, in thought, through the chains of all other tables. A finding names the chain, what
//! is lost there, and the commands of the tool that owns it; it ends when the chain lets the packet pass.

mod packets;
mod words;

use rustix::io::Errno;
use weft_core::types::Family;

use self::packets::{Sample, samples};
use super::{Finding, Input, unread, warning};
use crate::kernel::{
    KernelError,
    nft::{Dropper, Nft},
};

/// What is lost in one chain.
struct Loss {
    dropper: Dropper,
    samples: Vec<Sample>,
}

pub(super) async fn check(nft: &mut Nft, input: &Input) -> Vec<Finding> {
    let mut losses: Vec<Loss> = Vec::new();
    for sample in samples(input) {
        match nft.droppers(&sample.packet).await {
            Ok(droppers) => droppers.into_iter().for_each(|dropper| note(&mut losses, dropper, &sample)),
            // nfnetlink tells nothing without CAP_NET_ADMIN; that it is missing is a finding of its own.
            Err(KernelError::Refused { errno, .. }) if errno == Errno::PERM.raw_os_error() => break,
            Err(error) => return vec![unread("other firewalls", &error)],
        }
    }
    let mut findings: Vec<Finding> = losses.iter().map(|loss| told(loss, input)).collect();
    findings.extend(legacy(input));
    findings
}

/// One loss for each chain, whatever is lost there.
fn note(losses: &mut Vec<Loss>, dropper: Dropper, sample: &Sample) {
    let same = |loss: &&mut Loss| {
        let known = &loss.dropper;
        (known.table_family, &known.table, &known.chain) == (dropper.table_family, &dropper.table, &dropper.chain)
    };
    match losses.iter_mut().find(same) {
        Some(loss) => loss.samples.push(sample.clone()),
        None => losses.push(Loss { dropper, samples: vec![sample.clone()] }),
    }
}

fn told(loss: &Loss, input: &Input) -> Finding {
    let Dropper { table_family, table, chain, by, .. } = &loss.dropper;
    let lost = words::lost(&loss.samples, input);
    let how = match by {
        None => "its policy is drop and no rule accepts them".to_owned(),
        Some(by) if by == chain => "a rule of it drops them".to_owned(),
        Some(by) => format!("a rule of chain {by} drops them"),
    };
    let remedy = words::remedy(loss, input);
    let text = format!("nftables chain {chain} of table {table_family} {table} drops {lost}: {how}; {remedy}");
    let of_tunnel = loss.samples.iter().any(|sample| sample.is_tunnel);
    warning(if of_tunnel { "FirewallDropsTunnel" } else { "FirewallDropsForwarded" }, text)
}

/// The old packet filter beside nf_tables tells its rules in a form of its own.
fn legacy(input: &Input) -> Vec<Finding> {
    let tables = [
        (Family::V4, "/proc/net/ip_tables_names", "iptables-legacy"),
        (Family::V6, "/proc/net/ip6_tables_names", "ip6tables-legacy"),
    ];
    let has_filter = |file: &str| {
        let names = std::fs::read_to_string(file).unwrap_or_default();
        names.lines().any(|name| name == "filter")
    };
    let found = tables.into_iter().filter(|(family, file, _)| input.may_carry(*family) && has_filter(file));
    found.map(|(_, _, tool)| words::legacy(tool)).collect()
}
