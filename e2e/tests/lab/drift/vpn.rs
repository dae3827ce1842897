//! A link that brings a better route to the controller, as a VPN does, while the underlay link and its address are untouched.

use anyhow::{Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::Cluster,
    lab::{Host, LabSpec, ROUTER, UPLINK, wait},
    lab_test,
};

use crate::drift::scene::PATIENCE;

const NODE: &str = "a1";

/// The controller's subnet is reached through the VPN's other end from now on.
async fn connect_vpn(host: &Host) -> Result<()> {
    let script = format!(
        "ip link add vpn0 type veth peer name vpn netns {ROUTER}
         ip addr add 10.99.0.1/24 dev vpn0
         ip -n {ROUTER} addr add 10.99.0.2/24 dev vpn
         ip -n {ROUTER} link set vpn up
         ip link set vpn0 up
         ip route add 10.87.0.0/24 via 10.99.0.2 dev vpn0"
    );
    host.run(&["sh", "-euc", &script]).await?;
    Ok(())
}

/// The link that the agent of a node says carries the tunnel.
async fn underlay(cluster: &Cluster) -> Result<String> {
    let status: serde_json::Value = cluster.agent(NODE).weft().json(&["status"]).await?;
    Ok(status["underlayInterface"].as_str().unwrap_or_default().to_owned())
}

/// Started anew it looks at everything, and so at the new route too.
async fn restart(cluster: &Cluster) -> Result<()> {
    let agent = cluster.agent(NODE);
    agent.stop().await?;
    agent.start().await?;
    agent.ready().await?;
    cluster.connected().await
}

lab_test!(a_vpn_that_brings_a_better_route_to_the_controller_does_not_take_the_tunnel_along, async || {
    let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
    cluster.ready().await?;
    let (here, there) = (cluster.pod(NODE, "here").await?, cluster.pod("b1", "there").await?);
    let host = cluster.lab().host(NODE);
    connect_vpn(&host).await?;
    restart(&cluster).await?;
    ensure!(underlay(&cluster).await? == UPLINK, "the tunnel moved to {}", underlay(&cluster).await?);
    here.reaches(there.address(Family::V4)).await?;
    there.reaches(here.address(Family::V4)).await?;
    // The link that carries it is lost: what is left is all there is.
    host.net().wire().set_up(UPLINK, false).await?;
    wait::until("the tunnel to move to what is left", PATIENCE, async || {
        ensure!(underlay(&cluster).await? == "vpn0", "it is at {}", underlay(&cluster).await?);
        Ok(())
    })
    .await
});
