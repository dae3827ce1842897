//! Who is a member, through joins, departures and returns: never do two nodes have one pod CIDR.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Agent, Cluster},
    lab::{Host, LabSpec, UPLINK, default_network, wait},
    lab_test,
};

/// A pool with room for `nodes` nodes, a power of two.
fn small(nodes: u8) -> LabSpec {
    let prefix = 24 - u8::try_from(nodes.trailing_zeros()).expect("a few");
    LabSpec { pools: vec![(format!("10.244.0.0/{prefix}"), 24)], ..LabSpec::default() }
}

/// The pod CIDRs of all members; each may be there once only.
async fn shares(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let peers = cluster.controller().weft().peers().await?;
    let all: Vec<_> = peers.iter().flat_map(|peer| peer.pod_cidrs.clone()).collect();
    let different: BTreeSet<_> = all.iter().cloned().collect();
    ensure!(different.len() == all.len(), "two nodes have one pod CIDR: {peers:?}");
    Ok(different)
}

lab_test!(nodes_that_join_at_once_get_different_shares, async || {
    let cluster = Cluster::empty(LabSpec::default()).await?;
    // All tokens first, so that the joins themselves collide.
    let mut tokens = Vec::new();
    for node in cluster.lab().node_names() {
        tokens.push((cluster.lab().host(&node), cluster.controller().token(&node).await?));
    }
    let mut agents = Vec::new();
    for (host, token) in tokens {
        agents.push(Agent::install(host, cluster.controller().address(), &token)?);
    }
    futures::future::try_join_all(agents.iter().map(Agent::start)).await?;
    for agent in &agents {
        agent.ready().await?;
    }
    ensure!(shares(&cluster).await?.len() == 2 * agents.len());
    Ok(())
});

lab_test!(a_full_pool_refuses_the_next_node_and_takes_it_once_there_is_room, async || {
    let cluster = Cluster::empty(small(2)).await?;
    for node in ["a1", "b1"] {
        cluster.join(node).await?.ready().await?;
    }
    let late = cluster.join("a2").await?;
    wait::until("the refusal to be told", wait::PATIENCE, async || {
        let log = std::fs::read_to_string("/run/lab/logs/a2-weft-agent.log")?;
        ensure!(log.contains("10.244.0.0/23"), "the agent does not say that the pool is full: {log}");
        Ok(())
    })
    .await?;
    ensure!(shares(&cluster).await?.len() == 2);
    cluster.delete("b1").await?;
    late.ready().await?;
    ensure!(shares(&cluster).await?.len() == 2);
    Ok(())
});

lab_test!(a_node_that_leaves_and_returns_is_reached_again, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let there = cluster.pod("a1", "a1-p").await?;
    cluster.delete("b1").await?;
    ensure!(shares(&cluster).await?.len() == 2, "b1 is still a member");
    cluster.join("b1").await?;
    cluster.ready().await?;
    shares(&cluster).await?;
    let back = cluster.pod("b1", "b1-p").await?;
    for family in Family::ALL {
        there.reaches(back.address(family)).await?;
    }
    Ok(())
});

lab_test!(a_stale_agent_whose_share_moved_disturbs_nobody, async || {
    let cluster = Cluster::empty(small(4)).await?;
    for node in ["a1", "a2", "b1", "b2"] {
        cluster.join(node).await?.ready().await?;
    }
    let there = cluster.pod("a1", "a1-p").await?;
    let stale = cluster.agent("b1");
    let moved = cluster.controller().weft().peer("b1").await?.pod_cidrs;
    // Its kernel keeps what it had: nobody cleaned up.
    cluster.delete("b1").await?;
    cluster.lab().add_host("b", "b3").await?;
    cluster.join("b3").await?.ready().await?;
    ensure!(cluster.controller().weft().peer("b3").await?.pod_cidrs == moved, "b3 has not got the share that b1 had");
    let pod = cluster.pod("b3", "b3-p").await?;
    let address: IpAddr = pod.address(Family::V4);
    there.reaches(address).await?;

    stale.start().await?;
    wait::until("the stale agent to be refused", wait::PATIENCE, async || {
        let status = stale.weft().status().await?;
        ensure!(!status.controller_connected, "the stale agent is connected");
        ensure!(!status.controller_message.is_empty(), "it does not say why it is not connected");
        Ok(())
    })
    .await?;
    shares(&cluster).await?;
    ensure!(cluster.controller().weft().peer("b1").await.is_err(), "b1 is a member again");
    for node in ["a1", "a2", "b2"] {
        let other = cluster.pod(node, &format!("{node}-late")).await?;
        other.reaches(address).await.with_context(|| format!("from {node}"))?;
    }
    Ok(())
});

/// Gives a host the IPv4 address of another one in its subnet, instead of its own.
async fn take_over(host: &Host, of: &Host) -> Result<()> {
    let (net, family) = (host.net(), Family::V4);
    let defaults = net.wire().routes_to(default_network(family)).await?;
    net.wire().delete_address(UPLINK, host.address(family)).await?;
    net.wire().add_address(UPLINK, of.address(family), 24).await?;
    let IpAddr::V4(address) = of.address(family) else { unreachable!("it was asked for IPv4") };
    let [a, b, c, _] = address.octets();
    ensure!(defaults.len() == 1, "one way out: {defaults:?}");
    net.wire().add_route(default_network(family), Some(IpAddr::from([a, b, c, 1]))).await
}

/// `winner` comes back with the address that `loser` had, in one subnet.
async fn moves(winner: &str, loser: &str) -> Result<()> {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let (here, there) = (cluster.pod("a1", "a1-p").await?, cluster.pod(winner, "moving").await?);
    let (host, lost) = (cluster.lab().host(winner), cluster.lab().host(loser));
    cluster.agent(loser).kill().await?;
    lost.set_connected(false).await?;
    cluster.agent(winner).stop().await?;
    take_over(&host, &lost).await?;
    cluster.agent(winner).start().await?;
    let weft = cluster.controller().weft();
    wait::until(&format!("{winner} to have the address of {loser}"), wait::PATIENCE, async || {
        let (peer, other) = (weft.peer(winner).await?, weft.peer(loser).await?);
        let at = lost.address(Family::V4).to_string();
        let has_it = |addresses: &[String]| addresses.iter().any(|address| address.starts_with(&at));
        ensure!(has_it(&peer.underlay_addresses) && !has_it(&other.underlay_addresses), "{peer:?} {other:?}");
        ensure!(peer.is_ready() && weft.peer("a1").await?.is_ready(), "{peer:?}");
        // The controller shows it before the others have programmed it.
        let seen = cluster.agent("a1").weft().peer(winner).await?;
        ensure!(has_it(&seen.underlay_addresses) && seen.is_ready(), "{seen:?}");
        Ok(())
    })
    .await?;
    here.reaches(there.address(Family::V4)).await?;
    there.reaches(here.address(Family::V4)).await?;
    Ok(())
}

// Whoever is told of first: announcements used to go by name.
lab_test!(the_first_by_name_gets_a_lost_nodes_address_and_is_reached_at_it, async || moves("b1", "b2").await);

lab_test!(the_last_by_name_gets_a_lost_nodes_address_and_is_reached_at_it, async || moves("b2", "b1").await);

lab_test!(a_token_works_once_and_for_its_node_only, async || {
    let cluster = Cluster::empty(LabSpec::default().hosts(2)).await?;
    let token = cluster.controller().token("a1").await?;
    let address = cluster.controller().address();
    let wrong = Agent::install(cluster.lab().host("a2"), address, &token)?;
    wrong.start().await?;
    refused("a2", &wrong).await?;
    let right = Agent::install(cluster.lab().host("a1"), address, &token)?;
    right.start().await?;
    right.ready().await?;
    // The same token with another key: somebody copied it.
    let peers = cluster.controller().weft().peers().await?;
    ensure!(peers.iter().map(|peer| peer.node.as_str()).eq(["a1"]), "{peers:?}");
    Ok(())
});

/// Waits until the log of a node's agent says that the controller refused its token.
async fn refused(node: &str, agent: &Agent) -> Result<()> {
    wait::until(&format!("the token of {node} to be refused"), wait::PATIENCE, async || {
        let log = std::fs::read_to_string(format!("/run/lab/logs/{node}-weft-agent.log"))?;
        ensure!(log.to_lowercase().contains("token"), "nothing about a token yet: {log}");
        Ok(())
    })
    .await?;
    ensure!(!agent.state().join("identity/node.crt").exists(), "{node} was given a certificate");
    Ok(())
}
