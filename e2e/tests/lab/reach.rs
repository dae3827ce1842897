//! Who reaches whom, and how the packets travel: pods of both families over every kind of underlay.

use std::time::Duration;

use anyhow::{Result, ensure};
use weft_core::{settings::Mode, types::Family};
use weft_e2e::{
    cluster::{Cluster, Path, Pod, Wires},
    lab::{
        LabSpec, Underlay,
        echo::{Echo, Transport, exchange},
        ping::Answer,
        wait,
    },
    lab_test,
};

/// One pod on each node.
async fn pods(cluster: &Cluster) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for node in cluster.lab().node_names() {
        pods.push(cluster.pod(&node, &format!("{node}-p")).await?);
    }
    Ok(pods)
}

fn pairs(pods: &[Pod]) -> impl Iterator<Item = (&Pod, &Pod)> {
    pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))).filter(|(from, to)| from.name() != to.name())
}

/// Every pod reaches every other in both families, on the path that design wants, and the wires prove it.
async fn every_pod_reaches_every_other(spec: LabSpec) -> Result<()> {
    let cluster = Cluster::start(spec).await?;
    let pods = pods(&cluster).await?;
    let wires = Wires::tap(&cluster).await?;
    for (from, to) in pairs(&pods) {
        for family in Family::ALL {
            let asked = wires.ask(from, to, family).await?;
            let expected = wires.expected(from, to, family);
            ensure!(asked.rtt.is_some(), "{} does not reach {} over {family}", from.name(), to.name());
            ensure!(
                asked.path == expected,
                "{} to {} over {family}: {asked:?}, not {expected:?}",
                from.name(),
                to.name()
            );
        }
    }
    let forwarded = wires.prove()?;
    ensure!(forwarded.vxlan_packets > 0, "nothing went through the router");
    Ok(())
}

lab_test!(pods_reach_pods_over_a_dual_stack_underlay, async || {
    every_pod_reaches_every_other(LabSpec::default()).await
});

lab_test!(pods_reach_pods_over_a_dual_stack_underlay_with_ipv6_outer_packets, async || {
    every_pod_reaches_every_other(LabSpec { outer: Family::V6, ..LabSpec::default() }).await
});

lab_test!(pods_reach_pods_over_an_ipv4_underlay, async || {
    every_pod_reaches_every_other(LabSpec::default().underlay(Underlay::Only(Family::V4))).await
});

lab_test!(pods_reach_pods_over_an_ipv6_underlay, async || {
    every_pod_reaches_every_other(LabSpec::default().underlay(Underlay::Only(Family::V6))).await
});

lab_test!(in_mode_always_nothing_of_a_pod_is_seen_outside_the_tunnel, async || {
    let cluster = Cluster::start(LabSpec { mode: Mode::Always, ..LabSpec::default() }).await?;
    let pods = pods(&cluster).await?;
    let wires = Wires::tap(&cluster).await?;
    for (from, to) in pairs(&pods) {
        let asked = wires.ask(from, to, Family::V4).await?;
        ensure!(asked.rtt.is_some() && asked.path == Path::Vxlan, "{} to {}: {asked:?}", from.name(), to.name());
    }
    for (node, capture) in wires.uplinks() {
        capture.expect_none(&format!("plain pod packets at {node}"), |packet| wires.is_plain_pod(packet))?;
    }
    Ok(())
});

lab_test!(in_mode_never_other_subnets_are_unreachable_and_nothing_is_encapsulated, async || {
    let cluster = Cluster::empty(LabSpec { mode: Mode::Never, ..LabSpec::default() }).await?;
    for node in cluster.lab().node_names() {
        cluster.join(&node).await?;
    }
    for agent in cluster.agents() {
        agent.ready().await?;
    }
    let pods = pods(&cluster).await?;
    let wires = Wires::tap(&cluster).await?;
    for (from, to) in pairs(&pods) {
        let answer = from.ping(to.address(Family::V4)).await?;
        let reached = matches!(answer, Answer::Reply { .. });
        let same_subnet = from.host().subnet() == to.host().subnet();
        ensure!(reached == same_subnet, "{} to {}: {answer:?}", from.name(), to.name());
        ensure!(reached || answer != Answer::Silence, "{} to {}: left without an answer", from.name(), to.name());
    }
    for (node, capture) in wires.uplinks() {
        capture.expect_none(&format!("tunnel packets at {node}"), |packet| packet.tunnel.is_some())?;
    }
    Ok(())
});

/// Packets as large as the pod's interface takes, and larger: segmented TCP and fragmented UDP.
async fn large_packets_arrive(spec: LabSpec) -> Result<()> {
    let cluster = Cluster::start(spec.hosts(2)).await?;
    let pods = pods(&cluster).await?;
    for (from, to) in [(&pods[0], &pods[3]), (&pods[0], &pods[1])] {
        for family in Family::ALL {
            let server = Echo::start(to.net(), Transport::Tcp, (to.address(family), 0).into())?;
            exchange(from.net(), Transport::Tcp, server.address(), &vec![0x57; 1_000_000]).await?;
            let server = Echo::start(to.net(), Transport::Udp, (to.address(family), 0).into())?;
            for length in [1, 1400, 1422, 1472, 4000, 16_000] {
                exchange(from.net(), Transport::Udp, server.address(), &vec![0x57; length]).await?;
            }
        }
    }
    Ok(())
}

// Nobody between two hosts of one subnet says that a packet was too big.
lab_test!(large_datagrams_arrive_inside_a_subnet_of_mixed_mtus, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(2)).await?;
    let pods = pods(&cluster).await?;
    cluster.lab().host("a2").run(&["ip", "link", "set", "eth0", "mtu", "1400"]).await?;
    for family in Family::ALL {
        let server = Echo::start(pods[1].net(), Transport::Udp, (pods[1].address(family), 0).into())?;
        // The first may be lost: its sender has to learn the MTU of its own node's route.
        wait::until("a large datagram to come back", wait::PATIENCE, async || {
            let asked = exchange(pods[0].net(), Transport::Udp, server.address(), &[0x57; 4000]);
            tokio::time::timeout(Duration::from_secs(1), asked).await??;
            Ok(())
        })
        .await?;
    }
    Ok(())
});

// The network between these hosts drops what is larger, and its links do not say so.
lab_test!(no_packet_is_larger_than_the_mtu_that_the_operator_names, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    for agent in cluster.agents() {
        agent.stop().await?;
        agent.set_options(&["--mtu", "1400"]);
        agent.start().await?;
        agent.ready().await?;
    }
    cluster.ready().await?;
    let pods = pods(&cluster).await?;
    let wires = Wires::tap(&cluster).await?;
    for family in Family::ALL {
        let server = Echo::start(pods[1].net(), Transport::Udp, (pods[1].address(family), 0).into())?;
        exchange(pods[0].net(), Transport::Udp, server.address(), &[0x57; 4000]).await?;
    }
    for (node, capture) in wires.uplinks() {
        capture.expect_none(&format!("packets of more than 1400 bytes at {node}"), |packet| packet.length > 1400)?;
    }
    ensure!(wires.prove()?.vxlan_packets > 0, "nothing went through the router");
    Ok(())
});

lab_test!(large_packets_arrive_over_ipv4, async || large_packets_arrive(LabSpec::default()).await);

lab_test!(large_packets_arrive_over_ipv6, async || {
    large_packets_arrive(LabSpec::default().underlay(Underlay::Only(Family::V6))).await
});
