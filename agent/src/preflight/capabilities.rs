//! Capabilities of the process (capabilities(7)).
//!
//! Reads the effective set; must never take uid 0 for a proof, containers run as root without them.

use super::{Finding, error, warning};

/// `CAP_NET_ADMIN` and `CAP_NET_RAW` in linux/capability.h.
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

pub(super) fn check() -> Vec<Finding> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    effective(&status).map(judge).unwrap_or_default()
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn judge(set: u64) -> Vec<Finding> {
    let lacks = |bit: u32| set & (1 << bit) == 0;
    let remedy = "run the agent as root, or grant it (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW; \
                  Kubernetes: securityContext.capabilities.add NET_ADMIN, NET_RAW)";
    let mut findings = Vec::new();
    if lacks(NET_ADMIN) {
        let message = format!(
            "capability CAP_NET_ADMIN is not in the agent's effective set ({set:#x}): it cannot program the \
             kernel; {remedy}"
        );
        findings.push(error("NoNetAdmin", message));
    }
    if lacks(NET_RAW) {
        let message = format!(
            "capability CAP_NET_RAW is not in the agent's effective set ({set:#x}): it cannot probe its peers; \
             {remedy}"
        );
        findings.push(warning("NoNetRaw", message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_capability_that_is_missing() {
        let codes = |status: &str| -> Vec<&str> {
            judge(effective(status).expect("a set")).iter().map(|finding| finding.code).collect()
        };
        assert_eq!(codes("Name:\tx\nCapEff:\t0000000000000000\n"), ["NoNetAdmin", "NoNetRaw"]);
        assert_eq!(codes("CapEff:\t0000000000001000\n"), ["NoNetRaw"]);
        assert_eq!(codes("CapEff:\t0000000000003000\n"), [""; 0]);
    }
}
