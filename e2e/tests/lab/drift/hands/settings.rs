//! Sysctls that Weft sets, switched to what they should not be.

use weft_e2e::lab::UPLINK;

use super::{Hand, Row};

/// What Weft sets on a node with pods at these links.
pub(crate) fn watched(pods: &[String]) -> Vec<String> {
    let mut paths: Vec<String> = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"].map(str::to_owned).into();
    for link in pods.iter().map(String::as_str).chain(["weft0", UPLINK]) {
        paths.push(format!("ipv4/conf/{link}/forwarding"));
    }
    for link in pods.iter().map(String::as_str).chain(["weft0"]) {
        paths.extend(["accept_ra", "disable_ipv6"].map(|name| format!("ipv6/conf/{link}/{name}")));
        paths.push(format!("ipv4/conf/{link}/rp_filter"));
    }
    paths.extend(pods.iter().map(|link| format!("ipv4/conf/{link}/send_redirects")));
    paths
}

/// Each of them wrong.
pub(crate) fn rows(pods: &[String]) -> Vec<Row> {
    watched(pods).into_iter().map(wrong).collect()
}

fn wrong(path: String) -> Row {
    let name = path.rsplit('/').next().unwrap_or_default();
    let value = match name {
        "ip_forward" | "forwarding" | "rp_filter" => "0",
        "accept_ra" => "2",
        _ => "1",
    };
    // The kernel has no word for these: neither a message nor a trace on the link.
    let silent = matches!(name, "accept_ra" | "send_redirects");
    Row { silent, ..Row::new(format!("sysctl {path} = {value}"), Hand::Setting(path, value)) }
}
