//! A node that Weft leaves is as it was before Weft came, with all that others have on it.

mod leader;

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use leader::{Leader, Said};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Agent, Cluster},
    lab::{CONTROL, Host, LabSpec, wait},
    lab_test,
};

/// Looks that together see everything but what the kernel counts.
const LOOKS: [&[&str]; 7] = [
    &["ip", "-o", "-br", "link"],
    &["ip", "-o", "-br", "address"],
    &["ip", "-4", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "nexthop"],
    &["bridge", "fdb"],
    &["nft", "-s", "list", "ruleset"],
];

/// What there is on a host, a line each.
async fn picture(host: &Host) -> Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for look in LOOKS {
        let text = host.run(look).await?;
        lines.extend(text.lines().map(|line| format!("{}: {}", look.join(" "), line.trim())));
    }
    Ok(lines)
}

/// What other programs have, in places like those of Weft.
async fn foreign(host: &Host) -> Result<()> {
    for command in [
        "ip link add other0 type vxlan id 99 dstport 8472 local 10.99.0.1",
        "ip address add 10.99.0.1/24 dev other0",
        "ip link set other0 up",
        "ip route add 203.0.113.0/24 dev other0 metric 87",
        "ip nexthop add id 99 dev other0",
        "nft add table inet other",
        "nft add chain inet other forward { type filter hook forward priority 5; }",
    ] {
        host.run(&command.split(' ').collect::<Vec<_>>()).await.with_context(|| command.to_owned())?;
    }
    Ok(())
}

fn files(directory: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Waits until an agent has said that its node is clean.
async fn clean(leader: &mut Leader, node: &str) -> Result<()> {
    while leader.hears().await? != Said::CleanedUp(node.to_owned()) {}
    Ok(())
}

async fn expect_as_before(agent: &Agent, before: &BTreeSet<String>) -> Result<()> {
    let now = picture(agent.host()).await?;
    let (missing, left): (Vec<_>, Vec<_>) = (before.difference(&now).collect(), now.difference(before).collect());
    ensure!(missing.is_empty() && left.is_empty(), "gone: {missing:#?}\nleft behind: {left:#?}");
    for directory in [agent.cni_configuration(), agent.cni_programs()] {
        ensure!(files(&directory)?.is_empty(), "{} holds {:?}", directory.display(), files(&directory)?);
    }
    Ok(())
}

lab_test!(an_ordered_clean_up_leaves_what_was_there_before, async || {
    let cluster = Cluster::empty(LabSpec::default().hosts(1)).await?;
    let host = cluster.lab().host("a1");
    // Others may rely on it by now, so it stays on; the kernel has anycast routes for it.
    host.net().sysctl("ipv6/conf/all/forwarding", "1")?;
    foreign(&host).await?;
    let before = picture(&host).await?;
    let agent = cluster.join("a1").await?;
    cluster.join("b1").await?;
    cluster.ready().await?;
    let (pod, other) = (cluster.pod("a1", "a1-p").await?, cluster.pod("b1", "b1-p").await?);
    pod.reaches(other.address(Family::V4)).await?;
    wait::until("the plugin's files", wait::PATIENCE, async || {
        ensure!(files(&agent.cni_configuration())?.len() == 1 && !files(&agent.cni_programs())?.is_empty());
        Ok(())
    })
    .await?;

    // SIGTERM cleans nothing up.
    let running = picture(&host).await?;
    agent.stop().await?;
    ensure!(running.is_subset(&picture(&host).await?), "a stop has removed something");
    ensure!(files(&agent.cni_configuration())?.len() == 1);
    agent.start().await?;
    agent.ready().await?;

    cluster.agent("b1").stop().await?;
    cluster.controller().stop().await?;
    let control = cluster.lab().host(CONTROL);
    let mut leader = Leader::instead_of(cluster.controller(), &control.net()).await?;
    clean(&mut leader, "a1").await?;
    expect_as_before(&agent, &before).await?;
    ensure!(files(&agent.state())? == ["identity"], "its state holds {:?}", files(&agent.state())?);
    let status = agent.weft().status().await?;
    ensure!(!status.ready && status.reason == "CleaningUp", "{status:?}");

    // An agent that starts in between does the same again, and puts nothing back.
    agent.kill().await?;
    agent.start().await?;
    clean(&mut leader, "a1").await?;
    expect_as_before(&agent, &before).await?;

    // Called off: the controller tells it of members, so it starts anew.
    drop(leader);
    cluster.controller().start().await?;
    agent.ended().await?;
    agent.start().await?;
    agent.ready().await?;
    let again = picture(&host).await?;
    ensure!(again.iter().any(|line| line.contains("weft0")), "nothing was programmed again");

    // To the end: with the agent the last file goes.
    cluster.controller().stop().await?;
    let mut leader = Leader::instead_of(cluster.controller(), &control.net()).await?;
    clean(&mut leader, "a1").await?;
    agent.stop().await?;
    expect_as_before(&agent, &before).await?;
    ensure!(files(&agent.state())?.is_empty(), "its state holds {:?}", files(&agent.state())?);
    drop((pod, other));
    Ok(())
});
