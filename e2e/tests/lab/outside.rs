//! Hosts and the world outside the overlay, with strict reverse path filtering on every link.

use std::{net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Pod},
    lab::{
        Capture, Host, LabSpec, Namespace, OUTSIDE, Underlay,
        echo::{Echo, Transport, exchange},
        ping::{PATIENCE, ping},
        wait::{self, until},
    },
    lab_test,
};

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// Asks a server over both transports and returns the addresses it saw.
async fn seen_by(server: &Namespace, address: IpAddr, client: &Namespace) -> Result<Vec<IpAddr>> {
    let mut seen = Vec::new();
    for transport in TRANSPORTS {
        let server = Echo::start(server, transport, (address, 0).into())?;
        exchange(client, transport, server.address(), b"who am I?").await?;
        seen.extend(server.peers().into_iter().map(|peer| peer.ip()));
    }
    ensure!(seen.len() == TRANSPORTS.len(), "the server saw {seen:?}");
    Ok(seen)
}

fn is_address_of(host: &Host, address: IpAddr) -> bool {
    host.addresses().iter().any(|own| own.address() == address)
}

lab_test!(hosts_reach_remote_pods, async || {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let host = cluster.lab().host("a1");
    for node in ["a1", "a2", "b1"] {
        let pod = cluster.pod(node, &format!("{node}-p")).await?;
        for family in Family::ALL {
            ping(&host.net(), pod.address(family), PATIENCE).await?.reply()?;
            seen_by(pod.net(), pod.address(family), &host.net()).await?;
        }
    }
    Ok(())
});

lab_test!(pods_reach_hosts_and_are_seen_with_their_nodes_address, async || {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let pod = cluster.pod("a1", "a1-p").await?;
    for name in ["a2", "b1", "control", OUTSIDE] {
        let host = cluster.lab().host(name);
        for family in Family::ALL {
            pod.reaches(host.address(family)).await?;
            let seen = seen_by(&host.net(), host.address(family), pod.net()).await?;
            let node = cluster.lab().host("a1");
            ensure!(seen.iter().all(|address| is_address_of(&node, *address)), "{name} saw {seen:?} over {family}");
        }
    }
    // Its own node sees the pod as it is: nothing left the node.
    let own = cluster.lab().host("a1");
    for family in Family::ALL {
        pod.reaches(own.address(family)).await?;
    }
    Ok(())
});

lab_test!(no_pod_address_ever_shows_outside, async || {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let pod = cluster.pod("b1", "b1-p").await?;
    let outside = cluster.lab().host(OUTSIDE);
    let capture = Capture::start(&outside.net(), "eth0")?;
    for family in Family::ALL {
        seen_by(&outside.net(), outside.address(family), pod.net()).await?;
        let hidden = pod.address(family);
        capture.expect_none("the pod's own address", |packet| packet.touches(|address| address == hidden))?;
    }
    Ok(())
});

lab_test!(pods_see_each_other_as_they_are, async || {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let client = cluster.pod("a1", "a1-p").await?;
    for node in ["a1", "a2", "b1"] {
        let server: Pod = cluster.pod(node, &format!("{node}-server")).await?;
        for family in Family::ALL {
            let seen = seen_by(server.net(), server.address(family), client.net()).await?;
            ensure!(seen.iter().all(|address| *address == client.address(family)), "{node} saw {seen:?}");
        }
    }
    Ok(())
});

lab_test!(hosts_reach_remote_pods_of_a_family_their_underlay_does_not_carry, async || {
    let cluster = Cluster::start(LabSpec::default().underlay(Underlay::Only(Family::V6)).hosts(1)).await?;
    let pod = cluster.pod("b1", "b1-p").await?;
    for family in Family::ALL {
        ping(&cluster.lab().host("a1").net(), pod.address(family), PATIENCE).await?.reply()?;
        seen_by(pod.net(), pod.address(family), &cluster.lab().host("a1").net()).await?;
    }
    Ok(())
});

/// Networks of the lab that are no pools: those of nodes and controller, and the one outside.
const NOT_MASQUERADED: &str = "nonMasqueradeCIDRs: [10.87.0.0/16, 198.51.100.0/24, 'fd87::/16', '2001:db8:ffff::/48']";

/// Has the controller announce [`NOT_MASQUERADED`].
async fn keep_addresses(cluster: &Cluster) -> Result<()> {
    let controller = cluster.controller();
    controller.stop().await?;
    let path = controller.directory().join("config.yaml");
    let before = std::fs::read_to_string(&path)?;
    std::fs::write(&path, format!("{before}\n{NOT_MASQUERADED}\n"))?;
    controller.start().await
}

/// The route that the operator of a router makes to a node's pods.
fn make_route(cluster: &Cluster, pod: &Pod, node: &str) -> Result<()> {
    for family in Family::ALL {
        let (to, via) = (pod.address(family).to_string(), cluster.lab().host(node).address(family).to_string());
        let mut command = std::process::Command::new("ip");
        command.args(["route", "add", &to, "via", &via]);
        let status = cluster.lab().router().enter(move || command.status())?;
        ensure!(status.success(), "ip route add {to} via {via} ended with {status}");
    }
    Ok(())
}

lab_test!(pods_keep_their_addresses_where_the_operator_says_so_but_never_towards_nodes, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let pod = cluster.pod("a1", "a1-p").await?;
    keep_addresses(&cluster).await?;
    make_route(&cluster, &pod, "a1")?;
    for family in Family::ALL {
        for name in [OUTSIDE, "control"] {
            let host = cluster.lab().host(name);
            until(&format!("{name} to see the pod's own {family} address"), wait::PATIENCE, async || {
                let seen = seen_by(&host.net(), host.address(family), pod.net()).await?;
                ensure!(seen.iter().all(|address| *address == pod.address(family)), "{name} saw {seen:?}");
                Ok(())
            })
            .await?;
        }
        // A node would answer through the tunnel, from an address that is no pod's.
        let (node, own) = (cluster.lab().host("b1"), cluster.lab().host("a1"));
        let seen = seen_by(&node.net(), node.address(family), pod.net()).await?;
        ensure!(seen.iter().all(|address| is_address_of(&own, *address)), "b1 saw {seen:?}");
    }
    Ok(())
});

lab_test!(a_node_may_decide_for_itself_whose_addresses_show, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    keep_addresses(&cluster).await?;
    let (agent, pod) = (cluster.agent("a1"), cluster.pod("a1", "a1-p").await?);
    agent.stop().await?;
    agent.set_options(&["--non-masquerade-cidr", "192.0.2.0/24"]);
    agent.start().await?;
    agent.ready().await?;
    let outside = cluster.lab().host(OUTSIDE);
    let seen = seen_by(&outside.net(), outside.address(Family::V4), pod.net()).await?;
    ensure!(seen.iter().all(|address| is_address_of(&cluster.lab().host("a1"), *address)), "outside saw {seen:?}");
    Ok(())
});

lab_test!(an_agent_says_that_no_answers_come_back_to_its_pods, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let (agent, pod) = (cluster.agent("a1"), cluster.pod("a1", "a1-p").await?);
    keep_addresses(&cluster).await?;
    let outside = cluster.lab().host(OUTSIDE).address(Family::V4);
    let capture = Capture::start(&cluster.lab().host("a1").net(), "eth0")?;
    // No router has a route to the pod.
    until("the pod to go outside under its own address", wait::PATIENCE, async || {
        for _ in 0..4 {
            ensure!(ping(pod.net(), outside, Duration::from_millis(50)).await?.reply().is_err(), "it was answered");
        }
        let own = pod.address(Family::V4);
        let count = capture.count(|packet| packet.touches(|address| address == own))?;
        ensure!(count >= 4, "{count} packets of the pod");
        Ok(())
    })
    .await?;
    // The host is checked every few minutes, and at a start.
    agent.stop().await?;
    agent.start().await?;
    until("the agent to say so", wait::PATIENCE, async || {
        let said = agent.weft().run(&["status"]).await?;
        ensure!(said.contains("not one packet came back"), "{said}");
        ensure!(said.contains("make routes there to this node's pod CIDRs"), "{said}");
        Ok(())
    })
    .await
});
