//! Pods against their node and their neighbours, on a running cluster; and nodes whose pods are half made.

use std::{fs, net::UdpSocket, process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use netlink_packet_route::link::LinkAttribute;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};
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

/// Sends a mebibyte over one connection.
async fn transfer(from: &Pod, to: &Pod, family: Family) -> Result<()> {
    let at = std::net::SocketAddr::new(to.address(family), 5001);
    let listener = to.net().tcp_listener(at)?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let receive = async {
        let (mut stream, _) = listener.accept().await?;
        Ok::<_, anyhow::Error>(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?)
    };
    let send = async {
        let mut stream = from.net().tcp_towards(at.ip())?.connect(at).await?;
        stream.write_all(&vec![7; 1 << 20]).await?;
        Ok(stream.shutdown().await?)
    };
    let both = async { tokio::try_join!(receive, send) };
    let (received, ()) =
        tokio::time::timeout(wait::limit(wait::PATIENCE), both).await.context("large packets are lost")??;
    ensure!(received == 1 << 20, "{received} bytes came");
    Ok(())
}

lab_test!(where_the_agent_may_not_enter_pods_they_learn_of_a_narrower_path, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let agent = cluster.agent("a1");
    agent.stop().await?;
    agent.confine();
    agent.start().await?;
    cluster.ready().await?;
    let (here, there) = (cluster.pod("a1", "here").await?, cluster.pod("b1", "there").await?);
    cluster.lab().host("a1").run(&["ip", "link", "set", "eth0", "mtu", "1400"]).await?;
    wait::until("the tunnel's MTU to be 1350", wait::PATIENCE, async || {
        let text = cluster.lab().host("a1").run(&["ip", "link", "show", "weft0"]).await?;
        ensure!(text.contains("mtu 1350"), "{text}");
        Ok(())
    })
    .await?;
    for family in Family::ALL {
        transfer(&here, &there, family).await?;
        transfer(&there, &here, family).await?;
    }
    ensure!(mtu(&here).await? == 1450, "it was entered after all: this test shows nothing");
    let later = cluster.pod("a1", "later").await?;
    ensure!(mtu(&later).await? == 1350, "a new pod has the old MTU");
    transfer(&here, &later, Family::V4).await?;
    transfer(&later, &here, Family::V6).await
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
    socket.set_read_timeout(Some(wait::limit(Duration::from_secs(20))))?;
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
    command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", step).env("CNI_IFNAME", "eth0").env("WEFT_FAULT", step);
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
