//! What `weft peers` says when something is wrong: which node, since when, and why.

use std::net::IpAddr;

use anyhow::{Result, bail, ensure};
use netlink_packet_route::route::RouteType;
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Peer, Weft},
    lab::{Host, LabSpec, UPLINK, Underlay, default_network, wait},
    lab_test,
};

/// Waits until `node` is in one of `states` in the list that `weft` prints, with a reason, a sentence and a time.
async fn told(weft: &Weft, node: &str, states: &[&str]) -> Result<Peer> {
    let what = format!("{node} to be shown as {states:?}");
    wait::until(&what, wait::PATIENCE, async || {
        let peer = weft.peer(node).await?;
        ensure!(states.contains(&peer.state.as_str()), "{node} is {}: {} {}", peer.state, peer.reason, peer.message);
        if !peer.is_ready() {
            ensure!(!peer.reason.is_empty() && !peer.message.is_empty(), "{node} is {} without a reason", peer.state);
            ensure!(peer.since.is_some(), "{node} is {} since never", peer.state);
        }
        Ok(peer)
    })
    .await
}

lab_test!(a_stopped_agent_is_shown_and_its_pods_still_reached, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let pods = [cluster.pod("a1", "a1-p").await?, cluster.pod("b1", "b1-p").await?];
    let before = cluster.controller().weft().peer("b1").await?;
    cluster.agent("b1").stop().await?;
    let after = told(&cluster.controller().weft(), "b1", &["Disconnected"]).await?;
    ensure!(after.since != before.since, "it was not disconnected since {:?}", before.since);
    ensure!(cluster.controller().weft().peer("a1").await?.is_ready(), "a1 is well");
    pods[0].reaches(pods[1].address(Family::V4)).await?;
    cluster.agent("b1").start().await?;
    told(&cluster.controller().weft(), "b1", &["Ready"]).await?;
    Ok(())
});

lab_test!(a_node_that_is_cut_off_is_shown_by_the_controller_and_by_its_peers, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    cluster.lab().host("b1").set_connected(false).await?;
    told(&cluster.agent("a1").weft(), "b1", &["Unreachable"]).await?;
    told(&cluster.controller().weft(), "b1", &["Disconnected", "Unreachable"]).await?;
    cluster.lab().host("b1").set_connected(true).await?;
    told(&cluster.agent("a1").weft(), "b1", &["Ready"]).await?;
    told(&cluster.controller().weft(), "b1", &["Ready"]).await?;
    Ok(())
});

lab_test!(kernel_entries_that_cannot_be_put_right_are_shown, async || {
    let cluster = Cluster::empty(LabSpec::default().hosts(1)).await?;
    cluster.join("a1").await?;
    cluster.ready().await?;
    // Somebody else's route in the place that the next node's will need: not ours to touch.
    let share = ("10.244.1.0".parse()?, 24);
    let net = cluster.lab().host("a1").net();
    net.wire().add_route(share, None).await?;
    cluster.join("b1").await?;
    let told_here = told(&cluster.agent("a1").weft(), "b1", &["Degraded"]).await?;
    ensure!(told_here.message.contains("10.244.1.0/24"), "it does not say which entry: {}", told_here.message);
    // It is the pair's problem: a1 is well, takes pods, and tells everybody which entry it lacks.
    wait::until("the controller to know which entry a1 lacks", wait::PATIENCE, async || {
        let peer = cluster.controller().weft().peer("a1").await?;
        ensure!(peer.is_ready() && peer.message.contains("10.244.1.0/24"), "{}: {}", peer.state, peer.message);
        Ok(())
    })
    .await?;
    cluster.agent("a1").ready().await?;
    let pod = cluster.pod("a1", "a1-p").await?;
    pod.reaches(cluster.lab().host("b1").address(Family::V4)).await?;
    let routes = net.wire().routes_to(share).await?;
    let [foreign] = &routes[..] else { bail!("somebody else's route was touched: {routes:?}") };
    ensure!(foreign.header.kind == RouteType::BlackHole, "somebody else's route was replaced: {foreign:?}");
    net.wire().delete_route(foreign.clone()).await?;
    told(&cluster.agent("a1").weft(), "b1", &["Ready"]).await?;
    wait::until("the controller to know that it is over", wait::PATIENCE, async || {
        let peer = cluster.controller().weft().peer("a1").await?;
        ensure!(peer.is_ready() && peer.message.is_empty(), "{}: {}", peer.state, peer.message);
        Ok(())
    })
    .await
});

// A driver that resets the card, or a hand: what is programmed stays or comes back, and what is on this node goes on.
lab_test!(an_underlay_link_that_is_down_for_a_moment_keeps_no_pod_out, async || {
    let underlay = Underlay::Only(Family::V4);
    let cluster = Cluster::start(LabSpec { underlay, ..LabSpec::default().hosts(2) }).await?;
    let (here, there) = (cluster.pod("a1", "here").await?, cluster.pod("b1", "there").await?);
    let net = cluster.lab().host("a1").net();
    net.wire().set_up(UPLINK, false).await?;
    told(&cluster.agent("a1").weft(), "b1", &["Unreachable", "Degraded"]).await?;
    let meanwhile = cluster.pod("a1", "meanwhile").await?;
    meanwhile.reaches(here.address(Family::V4)).await?;
    net.wire().set_up(UPLINK, true).await?;
    // The kernel gives back its own routes, and the network's configuration the others.
    net.wire().add_route(default_network(Family::V4), Some("10.87.1.1".parse()?)).await?;
    for node in ["a2", "b1"] {
        told(&cluster.agent("a1").weft(), node, &["Ready"]).await?;
    }
    meanwhile.reaches(there.address(Family::V4)).await?;
    told(&cluster.controller().weft(), "a1", &["Ready"]).await?;
    Ok(())
});

lab_test!(a_node_that_never_came_is_not_shown_as_ready, async || {
    let cluster = Cluster::empty(LabSpec::default().hosts(1)).await?;
    cluster.join("a1").await?;
    cluster.agent("a1").ready().await?;
    cluster.join("b1").await?;
    cluster.agent("b1").ready().await?;
    cluster.agent("b1").kill().await?;
    cluster.agent("a1").kill().await?;
    cluster.controller().kill().await?;
    cluster.controller().start().await?;
    let peers = cluster.controller().weft().peers().await?;
    ensure!(peers.len() == 2, "members are not forgotten: {peers:?}");
    ensure!(peers.iter().all(|peer| !peer.is_ready()), "nobody is there: {peers:?}");
    Ok(())
});

/// Gives a host an address instead of `from`, and the way out by the router of its subnet.
async fn readdress(host: &Host, from: IpAddr, address: &str, prefix: u8, router: &str) -> Result<()> {
    let (net, address, router): (_, IpAddr, IpAddr) = (host.net(), address.parse()?, router.parse()?);
    let default = default_network(Family::of(address));
    for route in net.wire().routes_to(default).await? {
        net.wire().delete_route(route).await?;
    }
    net.wire().delete_address(UPLINK, from).await?;
    net.wire().add_address(UPLINK, address, prefix).await?;
    net.wire().add_route(default, Some(router)).await
}

// b1 is in a /23, where x.255 is a host's; b2 beside it has the /24 whose broadcast address that is.
lab_test!(an_address_that_one_peer_cannot_use_is_the_problem_of_these_two_alone, async || {
    let cluster = Cluster::empty(LabSpec::default()).await?;
    let (router, gateway) = (cluster.lab().router().wire(), "10.87.2.1".parse()?);
    router.delete_address("net-b", gateway).await?;
    router.add_address("net-b", gateway, 23).await?;
    let host = cluster.lab().host("b1");
    readdress(&host, host.address(Family::V4), "10.87.2.255", 23, "10.87.2.1").await?;
    for node in ["a1", "b1", "b2"] {
        cluster.join(node).await?.ready().await?;
    }
    let told_here = told(&cluster.agent("b2").weft(), "b1", &["Degraded"]).await?;
    ensure!(told_here.message.contains("10.244."), "it does not say which entry: {}", told_here.message);
    // Nodes go on taking pods, and everybody else reaches everybody.
    let [a, b1, b2] =
        [cluster.pod("a1", "a1-p").await?, cluster.pod("b1", "b1-p").await?, cluster.pod("b2", "b2-p").await?];
    a.reaches(b1.address(Family::V4)).await?;
    b2.reaches(a.address(Family::V4)).await?;
    let weft = cluster.controller().weft();
    wait::until("the controller to know that all nodes are well, and what b2 lacks", wait::PATIENCE, async || {
        let peers = weft.peers().await?;
        ensure!(peers.iter().all(Peer::is_ready), "{peers:?}");
        let message = &weft.peer("b2").await?.message;
        ensure!(message.contains("b1"), "it does not say whom it concerns: {message:?}");
        Ok(())
    })
    .await
});

lab_test!(a_node_with_an_address_that_no_host_can_have_is_told_so_and_hurts_nobody, async || {
    let cluster = Cluster::empty(LabSpec::default()).await?;
    let host = cluster.lab().host("b1");
    readdress(&host, host.address(Family::V6), "fd87:0:0:2::", 64, "fd87:0:0:2::1").await?;
    for node in ["a1", "b2"] {
        cluster.join(node).await?.ready().await?;
    }
    cluster.join("b1").await?;
    let weft = cluster.controller().weft();
    wait::until("the list to say why b1 has no address", wait::PATIENCE, async || {
        let peer = weft.peer("b1").await?;
        ensure!(peer.state == "Pending" && peer.reason == "NoUnderlayAddress", "{peer:?}");
        ensure!(peer.message.contains("fd87:0:0:2::/64 of node b1 is the subnet-router anycast address"), "{peer:?}");
        Ok(())
    })
    .await?;
    ensure!(weft.peer("a1").await?.is_ready() && weft.peer("b2").await?.is_ready(), "{:?}", weft.peers().await?);
    let pods = [cluster.pod("a1", "a1-p").await?, cluster.pod("b2", "b2-p").await?];
    pods[0].reaches(pods[1].address(Family::V6)).await?;
    readdress(&host, "fd87:0:0:2::".parse()?, "fd87:0:0:2::77", 64, "fd87:0:0:2::1").await?;
    told(&weft, "b1", &["Ready"]).await?;
    Ok(())
});
