//! Strict reverse path filtering on the underlay.
//!
//! When a peer's path switches between direct and tunnel, both ends switch at slightly different times; with
//! rp_filter=1 IPv4 packets are lost in between, because they come in by another link than the answer would leave by.
//! Only the operator may loosen it there; the agent does so on its own device alone.

use std::{collections::BTreeSet, fs};

use weft_core::{settings::Mode, types::Family};

use super::{Finding, Input, host::Host, warning};

/// `rp_filter`: strict, RFC 3704 section 2.2.
const STRICT: i32 = 1;

pub(super) fn check(input: &Input, host: &Host) -> Vec<Finding> {
    let switches = input.settings.as_ref().is_none_or(|settings| settings.mode == Mode::CrossSubnet);
    if !switches || !input.may_carry(Family::V4) {
        return Vec::new();
    }
    let links: BTreeSet<String> = match input.interface {
        Some(name) => [name.to_string()].into(),
        None => host.default_links().map(str::to_owned).collect(),
    };
    links.iter().filter_map(|link| judge(link, read("all")?, read(link)?)).collect()
}

fn read(link: &str) -> Option<i32> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter")).ok()?.trim().parse().ok()
}

/// The kernel takes the larger of the two (Documentation/networking/ip-sysctl.rst).
fn judge(link: &str, all: i32, own: i32) -> Option<Finding> {
    (all.max(own) == STRICT).then(|| {
        warning(
            "StrictReversePath",
            format!(
                "rp_filter of underlay link {link} is 1 (all: {all}, {link}: {own}): IPv4 packets of pods are lost \
             for a moment whenever a peer's path switches between direct and tunnel; loosen it (sysctl -w \
             net.ipv4.conf.{link}.rp_filter=2, and the same in /etc/sysctl.d)"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_value_counts() {
        for (all, own, strict) in [(0, 0, false), (1, 0, true), (0, 1, true), (1, 2, false), (2, 1, false)] {
            assert_eq!(judge("eth0", all, own).is_some(), strict, "all {all}, own {own}");
        }
    }
}
