//! What `weft peers` says when something is wrong: which node, since when, and why.

use anyhow::{Result, ensure};
use rustix::process::Signal;
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Peer, Weft},
    lab::{LabSpec, wait},
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
        }
        ensure!(peer.since.is_some(), "{node} is {} since never", peer.state);
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
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    let share: ipnetwork::IpNetwork = {
        let peer = cluster.controller().weft().peer("b1").await?;
        peer.pod_cidrs.iter().find(|cidr| !cidr.contains(':')).expect("an IPv4 share").parse()?
    };
    let route = (share.ip(), share.prefix());
    // Held still, so that a foreign route can take the place of ours before it is put back.
    cluster.agent("a1").signal(Signal::STOP).await?;
    let net = cluster.lab().host("a1").net();
    for ours in net.wire().routes_to(route).await? {
        net.wire().delete_route(ours).await?;
    }
    net.wire().add_route(route, None).await?;
    cluster.agent("a1").signal(Signal::CONT).await?;
    told(&cluster.agent("a1").weft(), "b1", &["Degraded", "Unreachable"]).await?;
    told(&cluster.controller().weft(), "a1", &["Degraded"]).await?;
    // Once the foreign route is gone, all is put right.
    for foreign in net.wire().routes_to(route).await? {
        net.wire().delete_route(foreign).await?;
    }
    told(&cluster.agent("a1").weft(), "b1", &["Ready"]).await?;
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
