//! The data plane outlives everything: 1,000 packets a second between pods in different subnets while programs die,
//! nodes come and go.

use anyhow::{Result, ensure};
use tokio::net::UnixDatagram;
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Pod},
    lab::{LabSpec, Stream, wait},
    lab_test,
};

/// Packets a second.
const RATE: u32 = 1000;
/// Packets before and after what happens.
const SETTLED: u64 = 500;
/// Weft's device.
const DEVICE: &str = "weft0";

/// A cluster with a pod in each subnet and a stream each way, one per family.
struct Scene {
    cluster: Cluster,
    pods: [Pod; 2],
    streams: [Stream; 2],
    devices: Vec<(String, u32)>,
}

impl Scene {
    async fn set(spec: LabSpec) -> Result<Self> {
        let cluster = Cluster::start(spec).await?;
        let pods = [cluster.pod("a1", "a1-p").await?, cluster.pod("b1", "b1-p").await?];
        // What has to be learnt once is not what an outage costs.
        for family in Family::ALL {
            pods[0].reaches(pods[1].address(family)).await?;
        }
        let devices = devices(&cluster).await?;
        let [a, b] = &pods;
        let streams = [
            Stream::start(a.net(), b.net(), b.address(Family::V4), RATE)?,
            Stream::start(b.net(), a.net(), a.address(Family::V6), RATE)?,
        ];
        let scene = Self { cluster, pods, streams, devices };
        scene.pass().await;
        Ok(scene)
    }

    async fn pass(&self) {
        self.streams[0].pass(SETTLED).await;
    }

    /// Ends the streams; nothing may be lost, and the devices are still the same.
    async fn expect_no_loss(self) -> Result<()> {
        self.pass().await;
        let now = devices(&self.cluster).await?;
        for device in &self.devices {
            ensure!(now.contains(device), "{DEVICE} of {} was re-created: {now:?}", device.0);
        }
        for stream in self.streams {
            stream.stop().await?.expect_no_loss(2 * SETTLED)?;
        }
        drop(self.pods);
        Ok(())
    }
}

/// The index of Weft's device on each node.
async fn devices(cluster: &Cluster) -> Result<Vec<(String, u32)>> {
    let mut devices = Vec::new();
    for agent in cluster.agents() {
        devices.push((agent.host().name().to_owned(), agent.host().net().wire().index(DEVICE).await?));
    }
    Ok(devices)
}

lab_test!(kill_9_of_agents_loses_no_packet, async || {
    let scene = Scene::set(LabSpec::default().hosts(1)).await?;
    for node in ["a1", "b1"] {
        scene.cluster.agent(node).kill().await?;
        scene.pass().await;
        scene.cluster.agent(node).start().await?;
        scene.cluster.ready().await?;
    }
    scene.expect_no_loss().await
});

lab_test!(kill_9_of_the_controller_loses_no_packet, async || {
    let scene = Scene::set(LabSpec::default().hosts(1)).await?;
    scene.cluster.controller().kill().await?;
    scene.pass().await;
    scene.cluster.controller().start().await?;
    scene.cluster.connected().await?;
    scene.expect_no_loss().await
});

lab_test!(restarting_everything_loses_no_packet, async || {
    let scene = Scene::set(LabSpec::default().hosts(1)).await?;
    scene.cluster.controller().stop().await?;
    for agent in scene.cluster.agents() {
        agent.stop().await?;
    }
    scene.pass().await;
    for agent in scene.cluster.agents() {
        agent.start().await?;
    }
    scene.cluster.controller().start().await?;
    scene.cluster.ready().await?;
    scene.cluster.connected().await?;
    scene.expect_no_loss().await
});

lab_test!(nodes_that_join_and_leave_cost_others_no_packet, async || {
    let scene = Scene::set(LabSpec::default().hosts(1)).await?;
    for (subnet, node) in [("a", "a2"), ("b", "b2")] {
        scene.cluster.lab().add_host(subnet, node).await?;
        scene.cluster.join(node).await?;
    }
    scene.cluster.ready().await?;
    let newcomer = scene.cluster.pod("a2", "a2-p").await?;
    newcomer.reaches(scene.pods[1].address(Family::V4)).await?;
    newcomer.delete().await?;
    let left = scene.cluster.controller().weft().peer("a2").await?;
    scene.cluster.delete("a2").await?;
    scene.cluster.ready().await?;
    // What led to it is gone as well.
    let wire = scene.cluster.lab().host("b1").net().wire().clone();
    for cidr in &left.pod_cidrs {
        let network: ipnetwork::IpNetwork = cidr.parse()?;
        wait::until("the route to a2 to go", wait::PATIENCE, async || {
            let routes = wire.routes_to((network.ip(), network.prefix())).await?;
            ensure!(routes.is_empty(), "b1 still has {} routes to {cidr}", routes.len());
            Ok(())
        })
        .await?;
    }
    scene.expect_no_loss().await
});

lab_test!(a_node_that_reboots_without_a_controller_is_reached_again_from_its_disk, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let there = cluster.pod("a1", "a1-p").await?;
    let before = cluster.pod("b1", "b1-before").await?;
    there.reaches(before.address(Family::V4)).await?;
    // Written a moment after each change.
    let membership = cluster.agent("b1").state().join("membership");
    wait::until("the membership on disk", wait::PATIENCE, async || Ok(std::fs::metadata(&membership)?)).await?;
    cluster.controller().kill().await?;
    cluster.reboot("b1").await?;
    drop(before);
    ensure!(!cluster.lab().host("b1").net().wire().has_link(DEVICE).await, "the reboot wiped nothing");
    cluster.agent("b1").start().await?;
    cluster.agent("b1").ready().await?;
    let after = cluster.pod("b1", "b1-after").await?;
    for family in Family::ALL {
        there.reaches(after.address(family)).await?;
        after.reaches(there.address(family)).await?;
    }
    let status = cluster.agent("b1").weft().status().await?;
    ensure!(!status.controller_connected, "the controller was to be gone");
    Ok(())
});

// kubelet and container runtimes are ordered behind the agent.
lab_test!(a_node_that_boots_has_its_network_before_its_pods_and_waits_for_no_controller, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let membership = cluster.agent("b1").state().join("membership");
    wait::until("the membership on disk", wait::PATIENCE, async || Ok(std::fs::metadata(&membership)?)).await?;
    cluster.controller().kill().await?;
    cluster.reboot("b1").await?;
    let agent = cluster.agent("b1");
    let manager = agent.service_manager()?;
    agent.start().await?;
    ensure!(heard(&manager).await? == "READY=1", "something else was said first");
    ensure!(cluster.lab().host("b1").net().wire().has_link(DEVICE).await, "it was said to be ready before it was");
    agent.stop().await?;

    // Without a membership on the disk there is nothing to wait for.
    std::fs::remove_dir_all(agent.state())?;
    std::fs::create_dir(agent.state())?;
    agent.host().reboot().await?;
    agent.start().await?;
    ensure!(heard(&manager).await? == "READY=1", "something else was said first");
    Ok(())
});

async fn heard(manager: &UnixDatagram) -> Result<String> {
    let mut told = [0; 64];
    let length = tokio::time::timeout(wait::PATIENCE, manager.recv(&mut told)).await??;
    Ok(String::from_utf8_lossy(&told[..length]).trim().to_owned())
}

lab_test!(kill_9_amid_keeping_the_membership_leaves_one_to_boot_from, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let agent = cluster.agent("a1");
    let kept = agent.state().join("last-good");
    wait::until("the membership on disk", wait::PATIENCE, async || {
        ensure!(kept.exists(), "no {} yet", kept.display());
        Ok(())
    })
    .await?;
    // Killed by itself with half of the next one written, several times.
    agent.stop().await?;
    agent.set_fault(Some("half.last-good."));
    for _ in 0..3 {
        agent.start().await?;
        agent.ended().await?;
    }
    cluster.controller().kill().await?;
    agent.host().reboot().await?;
    agent.set_fault(None);
    agent.start().await?;
    agent.ready().await?;
    ensure!(agent.weft().peers().await?.len() == 2, "the membership is not what it was");
    let files = std::fs::read_dir(agent.state())?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let files = files.collect::<Result<Vec<_>>>()?;
    let is_left = |name: &String| name.ends_with(".broken") || name.ends_with(".new");
    ensure!(!files.iter().any(is_left), "something half written is left: {files:?}");
    Ok(())
});
