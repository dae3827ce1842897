//! An underlay that loses, delays, reorders, doubles and holds back packets: what pods see of it, and what members learn through it.
//!
//! Needs the kernel's netem, which not every machine has: `./dev test` leaves these out by name, `./dev vm KERNEL test` runs them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Pod},
    lab::{
        Account, LabSpec, Stream,
        echo::{Echo, Transport, exchange},
        wait,
    },
    lab_test,
};

/// Packets a second, and how many of them.
const RATE: u32 = 100;
const PACKETS: u64 = 300;

/// What becomes of numbered packets through the tunnel.
async fn account(from: &Pod, to: &Pod, family: Family) -> Result<Account> {
    let stream = Stream::start(from.net(), to.net(), to.address(family), RATE)?;
    stream.pass(PACKETS).await;
    stream.stop().await
}

/// Bytes there and back; how long that took.
async fn echoed(from: &Pod, to: &Pod, family: Family, length: usize) -> Result<Duration> {
    let server = Echo::start(to.net(), Transport::Tcp, (to.address(family), 0).into())?;
    let start = Instant::now();
    exchange(from.net(), Transport::Tcp, server.address(), &vec![0x57; length]).await?;
    Ok(start.elapsed())
}

lab_test!(
    #[ignore = "needs netem: ./dev vm 6.12 test --ignored netem::"]
    pods_see_the_underlay_as_it_is_and_nothing_worse,
    async || {
        let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
        let (a, b) = (cluster.pod("a1", "a1-p").await?, cluster.pod("b1", "b1-p").await?);
        let cable = cluster.lab().host("b1");
        for family in Family::ALL {
            a.reaches(b.address(family)).await?;

            cable.impair("delay 100ms").await?;
            let rtt = a.reaches(b.address(family)).await?;
            ensure!(rtt >= Duration::from_millis(200), "{family}: nothing was delayed: {rtt:?}");
            account(&a, &b, family).await?.expect_no_loss(PACKETS)?;

            cable.impair("duplicate 100%").await?;
            let doubled = account(&a, &b, family).await?;
            doubled.expect_no_loss(PACKETS)?;
            ensure!(doubled.duplicated > 0, "{family}: nothing was doubled: {doubled:?}");

            cable.impair("delay 100ms reorder 50%").await?;
            let reordered = account(&a, &b, family).await?;
            reordered.expect_no_loss(PACKETS)?;
            ensure!(reordered.overtaken > 0, "{family}: nothing was reordered: {reordered:?}");
            echoed(&a, &b, family, 20_000).await?;

            cable.impair("rate 1mbit").await?;
            let took = echoed(&a, &b, family, 50_000).await?;
            // 400,000 bits through a million a second.
            ensure!(took >= Duration::from_millis(400), "{family}: nothing was held back: {took:?}");

            cable.impair("loss 30%").await?;
            let lossy = account(&a, &b, family).await?;
            let (lost, sent) = (lossy.lost_packets(), lossy.sent);
            // Of 300 packets that are lost with 3 of 10 each, fewer than 30 or more than 150 are not to be expected in an age.
            ensure!((sent / 10..sent / 2).contains(&lost), "{family}: {lost} of {sent} packets were lost");
            wait::until("TCP to come through the loss", wait::PATIENCE, async || {
                echoed(&a, &b, family, 5000).await.map(drop)
            })
            .await?;

            cable.repair().await?;
            account(&a, &b, family).await?.expect_no_loss(PACKETS)?;
        }
        cluster.ready().await?;
        for agent in cluster.agents() {
            let status = agent.weft().status().await?;
            ensure!(status.repaired_objects == 0, "{}: {status:?}", agent.host().name());
        }
        Ok(())
    }
);

/// Waits until every agent's kernel holds these members and no others.
async fn known(cluster: &Cluster, members: &[&str]) -> Result<()> {
    let members: BTreeSet<&str> = members.iter().copied().collect();
    for agent in cluster.agents() {
        let what = format!("{} to know {members:?}", agent.host().name());
        wait::until(&what, wait::PATIENCE, async || {
            agent.alive().await?;
            let status = agent.weft().status().await?;
            ensure!(status.ready, "{}: {}", status.reason, status.message);
            let peers = agent.weft().peers().await?;
            let known: BTreeSet<&str> = peers.iter().map(|peer| peer.node.as_str()).collect();
            ensure!(known == members, "it knows {known:?}; {}", status.controller_message);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

lab_test!(
    #[ignore = "needs netem: ./dev vm 6.12 test --ignored netem::"]
    members_join_change_and_return_through_30_percent_loss_and_half_a_second,
    async || {
        let cluster = Cluster::empty(LabSpec::default()).await?;
        // Every packet, to a node and from it: a second there and back, and every other round trip fails.
        for node in cluster.lab().node_names() {
            cluster.lab().host(&node).impair("loss 30% delay 500ms").await?;
        }
        for node in ["a1", "b1"] {
            cluster.join(node).await?;
        }
        known(&cluster, &["a1", "b1"]).await?;
        for node in ["a2", "b2"] {
            cluster.join(node).await?;
        }
        known(&cluster, &["a1", "a2", "b1", "b2"]).await?;
        cluster.delete("b2").await?;
        known(&cluster, &["a1", "a2", "b1"]).await?;

        cluster.controller().kill().await?;
        for agent in cluster.agents() {
            wait::until(&format!("{} to miss its controller", agent.host().name()), wait::PATIENCE, async || {
                ensure!(!agent.weft().status().await?.controller_connected, "it is connected");
                Ok(())
            })
            .await?;
        }
        cluster.controller().start().await?;
        cluster.connected().await?;
        cluster.delete("a2").await?;
        known(&cluster, &["a1", "b1"]).await
    }
);
