//! A node whose state directory is full: it goes on, and says so.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Agent, Cluster},
    lab::{LabSpec, wait},
    lab_test,
};

/// Certificates of the shortest life there is.
const LIFE: &str = "certificateLifetime: 10s";
/// Lives of a certificate.
const LIVES: usize = 3;

/// Puts an agent's state on a disk of its own, a small one.
async fn on_small_disk(agent: &Agent) -> Result<()> {
    agent.stop().await?;
    let (host, state) = (agent.host(), agent.state().display().to_string());
    let aside = format!("{state}.aside");
    host.run(&["cp", "-a", &state, &aside]).await?;
    host.run(&["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", &state]).await?;
    host.run(&["cp", "-a", &format!("{aside}/."), &state]).await?;
    agent.start().await?;
    agent.ready().await
}

/// How often the agent's log says this.
async fn said(agent: &Agent, words: &str) -> Result<usize> {
    let log = std::fs::read_to_string(agent.log().await?)?;
    Ok(log.lines().filter(|line| line.contains(words)).count())
}

lab_test!(a_full_state_disk_costs_neither_stream_nor_membership, async || {
    let cluster = Cluster::empty(LabSpec::default().hosts(1)).await?;
    let controller = cluster.controller();
    controller.stop().await?;
    let config = controller.directory().join("config.yaml");
    std::fs::write(&config, std::fs::read_to_string(&config)? + "\n" + LIFE + "\n")?;
    controller.start().await?;
    for node in ["a1", "b1"] {
        cluster.join(node).await?;
    }
    cluster.ready().await?;
    let agent = cluster.agent("a1");
    on_small_disk(&agent).await?;
    let pods = [cluster.pod("a1", "a1-p").await?, cluster.pod("b1", "b1-p").await?];
    let fill = agent.state().join("fill").display().to_string();
    agent.host().run(&["sh", "-c", &format!("cat /dev/zero > {fill} 2>/dev/null; true")]).await?;

    let before = said(&agent, "certificate renewed").await?;
    wait::until("some lives of a certificate to pass", 2 * wait::PATIENCE, async || {
        let renewed = said(&agent, "certificate renewed").await? - before;
        ensure!(renewed > LIVES, "{renewed} renewals");
        Ok(())
    })
    .await?;
    let (renewed, connected) =
        (said(&agent, "certificate renewed").await?, said(&agent, "connected controller").await?);
    ensure!(connected <= renewed + 2, "{connected} streams for {renewed} certificates");
    let status = agent.weft().run(&["status"]).await?;
    ensure!(status.contains("certificate cannot be kept on disk"), "{status}");
    // The journal's last page has room for a few.
    let mut more = Vec::new();
    while let Ok(pod) = cluster.pod("a1", &format!("a1-{}", more.len())).await {
        ensure!(more.len() < 64, "addresses are given that are on no disk");
        more.push(pod);
    }
    let status = agent.weft().run(&["status"]).await?;
    ensure!(status.contains("no pod can be added"), "{status}");
    wait::until("the controller to say so", wait::PATIENCE, async || {
        let peer = controller.weft().peer("a1").await?;
        ensure!(peer.reason == "StateNotWritable", "{} {}: {}", peer.state, peer.reason, peer.message);
        Ok(())
    })
    .await?;
    for family in Family::ALL {
        pods[0].reaches(pods[1].address(family)).await?;
    }

    std::fs::remove_file(&fill).context("the disk's filling")?;
    wait::until("the disk to be used again", wait::PATIENCE, async || {
        ensure!(controller.weft().peer("a1").await?.is_ready(), "it is not ready");
        let status = agent.weft().run(&["status"]).await?;
        ensure!(!status.contains("certificate cannot be kept"), "{status}");
        Ok(())
    })
    .await?;
    let later = cluster.pod("a1", "a1-later").await?;
    let status = agent.weft().run(&["status"]).await?;
    ensure!(!status.contains("no pod can be added"), "{status}");
    later.reaches(pods[1].address(Family::V4)).await?;
    // What it holds is on disk: an agent that starts anew needs nothing but that.
    agent.kill().await?;
    tokio::time::timeout(wait::limit(Duration::from_secs(60)), async { agent.start().await }).await??;
    agent.ready().await
});
