//! Pods as a container runtime has them: attached, checked, deleted, many and at once.

use anyhow::{Context, Result, ensure};
use weft_core::types::Family;
use weft_e2e::{cluster::Cluster, lab::LabSpec, lab_test};

/// Pods that come and go one after the other.
const MANY: usize = 40;

/// A pod is reached by the very first packet in each family: what ADD announced is true.
async fn the_first_packet_arrives() -> Result<()> {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let there = cluster.pod("a1", "there").await?;
    for number in 0..MANY {
        let pod = cluster.pod("b1", &format!("pod-{number}")).await?;
        for family in Family::ALL {
            there.reaches(pod.address(family)).await.with_context(|| format!("the first packet to pod {number}"))?;
        }
        pod.check().await?;
        pod.delete().await?;
    }
    Ok(())
}

lab_test!(the_first_packet_to_a_new_pod_arrives, async || the_first_packet_arrives().await);

// The same once more: side by side with the other one the kernel is busy, which is when a half-ready pod shows.
lab_test!(the_first_packet_to_a_new_pod_arrives_on_a_busy_host, async || the_first_packet_arrives().await);

lab_test!(deleted_pods_leave_nothing_and_their_addresses_come_back, async || {
    let cluster =
        Cluster::start(LabSpec { pools: vec![("10.244.0.0/20".into(), 29)], ..LabSpec::default().hosts(1) }).await?;
    let wire = cluster.lab().host("a1").net().wire().clone();
    // Eight addresses, one of them the node's own: without their return the second round would find none.
    for round in 0..3 {
        let mut pods = Vec::new();
        for number in 0..5 {
            pods.push(cluster.pod("a1", &format!("pod-{round}-{number}")).await?);
        }
        for pod in pods {
            let address = pod.address(Family::V4);
            ensure!(!wire.routes_to((address, 32)).await?.is_empty(), "no route to pod {}", pod.name());
            pod.delete().await?;
            ensure!(wire.routes_to((address, 32)).await?.is_empty(), "a route to {address} outlives its pod");
        }
        let status = cluster.agent("a1").weft().status().await?;
        ensure!(status.pods == 0, "{} pods are left", status.pods);
    }
    Ok(())
});

lab_test!(running_pods_survive_a_restart_of_their_agent, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let pods = [cluster.pod("a1", "one").await?, cluster.pod("b1", "two").await?];
    cluster.agent("a1").kill().await?;
    cluster.agent("a1").start().await?;
    cluster.ready().await?;
    pods[0].check().await?;
    pods[0].reaches(pods[1].address(Family::V4)).await?;
    let new = cluster.pod("a1", "three").await?;
    ensure!(new.addresses() != pods[0].addresses(), "two pods have {:?}", new.addresses());
    Ok(())
});
