//! Pods without an overlay: a veth each, and a router that knows their networks.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use weft_core::types::Family;

use super::Way;
use crate::lab::{Host, Lab, Namespace, ROUTER, UPLINK};

/// A pod on either side, and the routes that lead there.
pub(super) async fn pods(lab: &Lab) -> Result<Way> {
    let (from, _) = pod(lab, "a1", 1).await?;
    let (to, address) = pod(lab, "b1", 2).await?;
    Ok(Way { from, to, address: address.into() })
}

/// Takes the lab's bridges out of the way: a bridge of the kernel segments every encapsulated packet that passes it
/// (it has no `hw_enc_features`), which no real router's port does. Each subnet has one host here, so its cable can end at
/// the router itself.
pub(super) async fn without_bridges(lab: &Lab) -> Result<()> {
    for node in lab.node_names() {
        let host = lab.host(&node);
        let (port, bridge) = (host.port(), format!("net-{}", host.subnet()));
        let own = host.addresses().v4.context("the lab has IPv4")?;
        let IpNetwork::V4(subnet) = own.network() else { bail!("{own} is not IPv4") };
        let router = subnet.nth(1).context("the router has the first address")?;
        let gateway = format!("{router}/{}", subnet.prefix());
        let commands: [&[&str]; 4] = [
            &["ip", "-n", ROUTER, "link", "set", &port, "nomaster"],
            &["ip", "-n", ROUTER, "addr", "del", &gateway, "dev", &bridge],
            &["ip", "-n", ROUTER, "addr", "add", &gateway, "dev", &port],
            &["ip", "neigh", "flush", "dev", UPLINK],
        ];
        for command in commands {
            host.run(command).await?;
        }
    }
    Ok(())
}

async fn pod(lab: &Lab, node: &str, number: u8) -> Result<(Arc<Namespace>, Ipv4Addr)> {
    let host: Arc<Host> = lab.host(node);
    let name = format!("native-{node}");
    let pod = Arc::new(Namespace::create(&name)?);
    pod.set_defaults(false).await?;
    let (gateway, address) = (Ipv4Addr::new(10, 99, number, 1), Ipv4Addr::new(10, 99, number, 2));
    let host_side = format!("{gateway}/24");
    let pod_side = format!("{address}/24");
    let network = format!("10.99.{number}.0/24");
    let (gateway, at) = (gateway.to_string(), host.address(Family::V4).to_string());
    let commands: [&[&str]; 7] = [
        &["ip", "link", "add", "native0", "type", "veth", "peer", "name", "eth0", "netns", &name],
        &["ip", "addr", "add", &host_side, "dev", "native0"],
        &["ip", "link", "set", "native0", "up"],
        &["ip", "-n", &name, "addr", "add", &pod_side, "dev", "eth0"],
        &["ip", "-n", &name, "link", "set", "eth0", "up"],
        &["ip", "-n", &name, "route", "add", "default", "via", &gateway],
        &["ip", "-n", ROUTER, "route", "add", &network, "via", &at],
    ];
    for command in commands {
        host.run(command).await?;
    }
    Ok((pod, address))
}
