//! Pods against their node and their neighbours, on a running cluster; and nodes whose pods are half made.

use std::{fs, net::UdpSocket, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use netlink_packet_route::link::LinkAttribute;
use serde_json::Value;
use tokio::process::Command;
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Agent, Cluster, Pod},
    lab::{LabSpec, Namespace, wait},
    lab_test,
};

/// The MTU of a pod's end.
async fn mtu(pod: &Pod) -> Result<u32> {
    let link = pod.net().wire().link("eth0").await?;
    let found = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    found.context("a link without an MTU")
}

lab_test!(running_pods_follow_the_underlays_mtu, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let (here, there) = (cluster.pod("a1", "here").await?, cluster.pod("b1", "there").await?);
    for (underlay, wanted) in [("1400", 1350), ("1500", 1450)] {
        cluster.lab().host("a1").run(&["ip", "link", "set", "eth0", "mtu", underlay]).await?;
        wait::until(&format!("the pod's MTU to be {wanted}"), wait::PATIENCE, async || {
            let found = mtu(&here).await?;
            ensure!(found == wanted, "it is {found}");
            Ok(())
        })
        .await?;
        here.check().await?;
        for family in Family::ALL {
            here.reaches(there.address(family)).await?;
        }
    }
    Ok(())
});

/// Sends `text` from `source`, which this namespace takes for its own first.
async fn send_as(
    net: &Namespace,
    source: std::net::IpAddr,
    to: std::net::SocketAddr,
    text: &'static [u8],
) -> Result<()> {
    let bits = if source.is_ipv4() { 32 } else { 128 };
    net.wire().add_address("lo", source, bits).await?;
    let socket = net.udp((source, 0).into())?;
    socket.send_to(text, to)?;
    net.wire().delete_address("lo", source).await
}

fn next(socket: &UdpSocket) -> Result<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

lab_test!(a_pod_cannot_speak_for_another, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let (forger, neighbour) = (cluster.pod("a1", "forger").await?, cluster.pod("a1", "neighbour").await?);
    let (far, node) = (cluster.pod("b1", "far").await?, cluster.lab().host("b1"));
    for family in Family::ALL {
        let socket = far.net().udp((far.address(family), 5000).into())?;
        let to = socket.local_addr()?;
        let before = cluster.agent("a1").weft().status().await?.dropped_forged_packets_from_pods;
        for stolen in [neighbour.address(family), far.address(family), node.address(family)] {
            // Its own address is the only one that a pod cannot lend from another; the far one it would keep to itself.
            if stolen != to.ip() {
                send_as(forger.net(), stolen, to, b"forged").await?;
            }
        }
        forger.net().udp((forger.address(family), 0).into())?.send_to(b"honest", to)?;
        ensure!(next(&socket)? == b"honest", "a forged {family} packet arrived");
        let after = cluster.agent("a1").weft().status().await?.dropped_forged_packets_from_pods;
        ensure!(after - before == 2, "{} of 2 forged {family} packets were counted", after - before);
    }
    Ok(())
});

/// Runs the plugin as far as `step`, where it dies.
async fn killed_at(agent: &Agent, net: &Namespace, step: &str) -> Result<()> {
    let file = agent.cni_configuration().join("10-weft.conflist");
    let text = wait::until("the CNI configuration", wait::PATIENCE, async || Ok(fs::read(&file)?)).await?;
    let list: Value = serde_json::from_slice(&text)?;
    let mut config = list["plugins"][0].clone();
    (config["name"], config["cniVersion"]) = (list["name"].clone(), list["cniVersion"].clone());
    let input = agent.host().directory().join("input");
    fs::write(&input, config.to_string())?;
    let mut command = Command::new(agent.cni_programs().join("weft-cni"));
    command
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", step)
        .env("CNI_IFNAME", "eth0")
        .env("WEFT_CNI_FAULT", step);
    command.env("CNI_NETNS", net.path()).env("CNI_PATH", agent.cni_programs());
    command.stdin(fs::File::open(&input)?).stdout(Stdio::null());
    let mut child = agent.host().net().enter_runtime(move || command.spawn())?;
    let status = child.wait().await?;
    ensure!(status.code().is_none(), "it was not killed at {step} but ended with {status}");
    Ok(())
}

lab_test!(half_made_pods_do_not_keep_their_node_from_being_ready, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let agent = cluster.agent("a1");
    let mut sandboxes = Vec::new();
    for step in ["after-allocate", "after-create", "after-host", "inside-pod", "after-pod"] {
        let net = Namespace::create(step)?;
        killed_at(&agent, &net, step).await?;
        sandboxes.push(net);
    }
    agent.kill().await?;
    agent.start().await?;
    agent.ready().await?;
    let (one, other) = (cluster.pod("a1", "one").await?, cluster.pod("b1", "other").await?);
    for family in Family::ALL {
        one.reaches(other.address(family)).await?;
    }
    Ok(())
});
