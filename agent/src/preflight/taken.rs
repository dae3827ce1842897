//! Addresses of other nodes on links of this one.
//!
//! What this node takes for its own never leaves it, so that the other node is cut off from here. kube-proxy in IPVS mode does
//! that with every address of a Service, and load balancers that name nodes' addresses have it do that with those.

use std::{collections::BTreeMap, net::IpAddr};

use weft_core::types::NodeName;

use super::{Finding, error, host::Host};

pub(super) fn check(nodes: &[(NodeName, IpAddr)], host: &Host) -> Vec<Finding> {
    let here: BTreeMap<_, _> = host.addresses.iter().map(|(link, address)| (address.ip(), (*link, address))).collect();
    let taken = nodes.iter().filter_map(|(node, address)| Some((node, address, here.get(address)?)));
    taken
        .map(|(node, address, (link, network))| {
            let link = host.name(*link);
            let text = format!(
                "address {address} of node {node} is on this node's link {link}, too: nothing that is sent to that node \
                 leaves this one; remove it here (ip address delete {network} dev {link}), and if it comes back, take it \
                 out of the externalIPs or load balancer addresses of the Service that has it, or change it there"
            );
            error("NodeAddressHere", text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::host::HostLink;

    #[test]
    fn other_nodes_addresses_are_found_on_any_link() {
        let link = |index, name: &str| HostLink { index, name: name.to_owned(), up: false, vxlan: None };
        let network = |text: &str| text.parse().expect("a network");
        let host = Host {
            links: vec![link(2, "eth0"), link(3, "kube-ipvs0")],
            addresses: vec![(2, network("10.87.1.11/24")), (3, network("10.87.2.11/32")), (3, network("10.96.0.1/32"))],
            ..Host::default()
        };
        let node = |name: &str, address: &str| (name.parse().expect("a name"), address.parse().expect("an address"));
        let nodes = [node("b1", "10.87.2.11"), node("b2", "10.87.2.12"), node("b1", "fd87:0:0:2::b")];
        let found = check(&nodes, &host);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.contains("10.87.2.11 of node b1 is on this node's link kube-ipvs0"), "{found:?}");
        assert!(found[0].message.contains("ip address delete 10.87.2.11/32 dev kube-ipvs0"), "{found:?}");
        assert!(check(&[node("b2", "10.87.2.12")], &host).is_empty());
    }
}
