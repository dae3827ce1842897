//! An earlier version beside this one: in both pairings, upgraded and rolled back, each with the disk of the other.
//!
//! Needs an older build: `./dev older` makes one of version 0.1 and runs this.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Pod},
    lab::{Build, LabSpec, Stream, wait},
    lab_test,
};

/// Packets a second.
const RATE: u32 = 1000;
/// Packets before and after all.
const SETTLED: u64 = 500;
const NODES: [&str; 2] = ["a1", "b1"];

/// What must be the same whatever runs: pod CIDRs and MAC by node.
type Given = BTreeMap<String, (Vec<String>, String)>;

struct Scene {
    cluster: Cluster,
    pods: [Pod; 2],
    given: Given,
}

impl Scene {
    /// A cluster that begins with `build`, with a pod in each subnet.
    async fn set(build: Build) -> Result<Self> {
        let cluster = Cluster::empty_of(LabSpec::default().hosts(1), build).await?;
        for node in NODES {
            cluster.join_of(node, build).await?;
        }
        cluster.ready().await?;
        let pods = [cluster.pod("a1", "a1-p").await?, cluster.pod("b1", "b1-p").await?];
        let given = given(&cluster).await?;
        let scene = Self { cluster, pods, given };
        scene.is_whole().await?;
        Ok(scene)
    }

    /// Another build of the controller, on the same disk.
    async fn controller(&self, build: Build) -> Result<()> {
        self.cluster.controller().stop().await?;
        self.cluster.controller().set_build(build);
        self.cluster.controller().start().await?;
        self.is_whole().await
    }

    /// Another build of the agents, one after the other, on the same disks.
    async fn agents(&self, build: Build) -> Result<()> {
        for agent in self.cluster.agents() {
            agent.stop().await?;
            agent.set_build(build);
            agent.start().await?;
            agent.ready().await?;
            // Only this version keeps that file: it is this one that runs.
            let file = agent.state().join("last-good");
            wait::until("this version's file", wait::PATIENCE, async || {
                ensure!(build == Build::Older || file.exists(), "no {} yet", file.display());
                Ok(())
            })
            .await?;
        }
        self.is_whole().await
    }

    /// Nothing was lost: everybody is connected and has what it had, pods reach each other, a change of the membership
    /// arrives, and nobody needs a controller to start.
    async fn is_whole(&self) -> Result<()> {
        self.stands().await?;
        self.takes_a_change().await?;
        self.cluster.controller().kill().await?;
        for agent in self.cluster.agents() {
            // Written soon after it came; both versions write this file.
            let file = agent.state().join("membership");
            let is_there = async || {
                ensure!(file.exists(), "no {} yet", file.display());
                Ok(())
            };
            wait::until("the membership on disk", wait::PATIENCE, is_there).await?;
            agent.kill().await?;
            agent.start().await?;
            agent.ready().await?;
        }
        self.reach().await?;
        self.cluster.controller().start().await?;
        self.stands().await
    }

    async fn stands(&self) -> Result<()> {
        self.cluster.connected().await?;
        self.cluster.ready().await?;
        let now = given(&self.cluster).await?;
        ensure!(now == self.given, "{:?} became {now:?}", self.given);
        for agent in self.cluster.agents() {
            let status = agent.weft().status().await?;
            ensure!(status.pods == 1, "{} knows {} pods", agent.host().name(), status.pods);
            let log = std::fs::read_to_string(agent.log().await?)?;
            ensure!(!log.contains("asking again"), "{} refused what it was told: {log}", agent.host().name());
        }
        self.reach().await
    }

    /// A node joins, is known to all, and leaves.
    async fn takes_a_change(&self) -> Result<()> {
        let (subnet, node) = ("a", "a2");
        if self.cluster.lab().node_names().iter().all(|name| name != node) {
            self.cluster.lab().add_host(subnet, node).await?;
        }
        self.cluster.join(node).await?;
        self.cluster.ready().await?;
        self.cluster.delete(node).await?;
        self.cluster.ready().await
    }

    async fn reach(&self) -> Result<()> {
        for family in Family::ALL {
            self.pods[0].reaches(self.pods[1].address(family)).await?;
        }
        Ok(())
    }
}

async fn given(cluster: &Cluster) -> Result<Given> {
    let peers = cluster.controller().weft().peers().await?;
    let peers = peers.into_iter().filter(|peer| NODES.contains(&peer.node.as_str()));
    Ok(peers.map(|peer| (peer.node, (peer.pod_cidrs, peer.mac))).collect())
}

/// From all of one version to all of the other and back, through the pairing that `first` leads to.
async fn there_and_back(
    first: impl AsyncFn(&Scene, Build) -> Result<()>,
    then: impl AsyncFn(&Scene, Build) -> Result<()>,
) -> Result<()> {
    let scene = Scene::set(Build::Older).await?;
    let [a, b] = &scene.pods;
    let stream = Stream::start(a.net(), b.net(), b.address(Family::V4), RATE)?;
    stream.pass(SETTLED).await;
    for build in [Build::Present, Build::Older] {
        first(&scene, build).await?;
        then(&scene, build).await?;
    }
    stream.pass(SETTLED).await;
    stream.stop().await?.expect_no_loss(2 * SETTLED)
}

lab_test!(
    #[ignore = "needs an older build: ./dev older"]
    controllers_first_upgraded_and_rolled_back,
    async || { there_and_back(Scene::controller, Scene::agents).await }
);

lab_test!(
    #[ignore = "needs an older build: ./dev older"]
    agents_first_upgraded_and_rolled_back,
    async || { there_and_back(Scene::agents, Scene::controller).await }
);
