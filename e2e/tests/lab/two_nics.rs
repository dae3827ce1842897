//! Nodes with two NICs: one by which they reach the controller and everything else, one for the tunnel.

use std::{fs, sync::Arc};

use anyhow::{Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Agent, Cluster},
    lab::{LabSpec, ROUTER, wait},
    lab_test,
};

/// The second NIC.
const SECOND: &str = "eth1";
/// Each node with the network of its second NIC, a /24 of 10.88.0.0/16; the router knows its way between them.
const NODES: [(&str, u8); 2] = [("a1", 1), ("b1", 2)];

/// A lab whose nodes have a second NIC each, and no agent yet. Where `strict`, hosts drop what comes in by another NIC than answers
/// leave by, so that no connection from a second NIC's address reaches the controller.
async fn plugged(strict: bool) -> Result<Cluster> {
    let cluster = Cluster::empty(LabSpec { strict, ..LabSpec::default().hosts(1) }).await?;
    for (node, network) in NODES {
        let script = format!(
            "ip link add {SECOND} type veth peer name second-{node} netns {ROUTER}
             ip addr add 10.88.{network}.11/24 dev {SECOND}
             ip -n {ROUTER} addr add 10.88.{network}.1/24 dev second-{node}
             ip -n {ROUTER} link set second-{node} up
             ip link set {SECOND} up
             ip route add 10.88.0.0/16 via 10.88.{network}.1 dev {SECOND}"
        );
        cluster.lab().host(node).run(&["sh", "-euc", &script]).await?;
    }
    Ok(cluster)
}

/// An agent whose tunnel is to run over the second NIC.
async fn join(cluster: &Cluster, node: &str) -> Result<Arc<Agent>> {
    cluster.join_with(node, &["--interface", SECOND]).await
}

/// Every node is reached at its second NIC, and pods reach each other.
async fn works(cluster: &Cluster) -> Result<()> {
    cluster.ready().await?;
    for (node, network) in NODES {
        let peer = cluster.controller().weft().peer(node).await?;
        let wanted = [format!("10.88.{network}.11/24")];
        ensure!(peer.underlay_addresses == wanted, "{node} is announced at {:?}", peer.underlay_addresses);
    }
    let (here, there) = (cluster.pod("a1", "here").await?, cluster.pod("b1", "there").await?);
    for family in Family::ALL {
        here.reaches(there.address(family)).await?;
        there.reaches(here.address(family)).await?;
    }
    Ok(())
}

lab_test!(a_second_nic_that_the_controller_reaches_needs_no_setting, async || {
    let cluster = plugged(false).await?;
    for (node, _) in NODES {
        join(&cluster, node).await?;
    }
    works(&cluster).await
});

lab_test!(a_second_nic_that_the_controller_does_not_reach_needs_one_and_the_refusal_names_it, async || {
    let cluster = plugged(true).await?;
    for (node, network) in NODES {
        let agent = join(&cluster, node).await?;
        wait::until("the refusal to be told", wait::PATIENCE, async || {
            let log = fs::read_to_string(agent.log().await?)?;
            let wanted = format!("underlay address 10.88.{network}.11 of node {node} is not proven");
            ensure!(log.contains(&wanted) && log.contains("underlayNetworks"), "{node} does not say so: {log}");
            Ok(())
        })
        .await?;
    }
    let controller = cluster.controller();
    controller.stop().await?;
    controller.set_underlay_network("10.88.0.0/16")?;
    controller.start().await?;
    works(&cluster).await
});
