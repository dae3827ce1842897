//! Packets that nobody may send: tunnel packets of pods, of strangers and of members for other nodes' pods, and packets to addresses that nobody has.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use ipnetwork::IpNetwork;
use weft_core::types::{Family, Mac};
use weft_e2e::{
    cluster::{Cluster, Pod, Wires},
    lab::{LabSpec, Namespace, OUTSIDE, frame, nat, packet::VXLAN_PORT, ping::Answer, wait},
    lab_test,
};

const VNI: u32 = 87;
const SECRET: &[u8] = b"a forged packet";

/// A pod that listens, and a forged tunnel packet that would reach it.
struct Target {
    node: String,
    socket: UdpSocket,
    forged: Vec<u8>,
}

impl Target {
    /// `pod` seems to be written to by `neighbour`, through the tunnel to its node.
    async fn new(cluster: &Cluster, pod: &Pod, neighbour: &Pod, family: Family) -> Result<Self> {
        let node = pod.host().name().to_owned();
        let vtep: Mac = cluster.controller().weft().peer(&node).await?.mac.parse()?;
        let socket = pod.net().udp(SocketAddr::new(pod.address(family), 0))?;
        socket.set_read_timeout(Some(wait::limit(Duration::from_secs(5))))?;
        let inner = frame::udp((neighbour.address(family), 40_000), (pod.address(family), port(&socket)?), SECRET);
        let forged = frame::vxlan(VNI, &frame::ethernet(vtep.octets(), [0x02, 0, 0, 0, 0, 1], &inner));
        Ok(Self { node, socket, forged })
    }

    fn send(&self, from: &Namespace, to: SocketAddr) -> Result<()> {
        let socket = from.udp_towards(to.ip())?;
        socket.send_to(&self.forged, to).with_context(|| format!("{} cannot send", from.name()))?;
        Ok(())
    }

    /// Waits for the next datagram.
    fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = [0; 2048];
        let length = self.socket.recv(&mut buffer).context("nothing was delivered")?;
        Ok(buffer[..length].to_vec())
    }

    /// Fails where anything but the next honest datagram is delivered: what was sent before it would come first.
    fn expect_nothing_before(&self, honest: &Pod) -> Result<()> {
        let socket = honest.net().udp_towards(self.socket.local_addr()?.ip())?;
        socket.send_to(b"an honest packet", self.socket.local_addr()?)?;
        match self.receive()?.as_slice() {
            b"an honest packet" => Ok(()),
            SECRET => bail!("the forged packet was delivered on {}", self.node),
            other => bail!("{} got {other:?}", self.node),
        }
    }
}

fn port(socket: &UdpSocket) -> Result<u16> {
    Ok(socket.local_addr()?.port())
}

/// Waits until a node counts more dropped packets than before.
async fn counted(cluster: &Cluster, node: &str, what: Dropped, before: u64) -> Result<()> {
    wait::until(&format!("{node} to count a dropped packet"), wait::PATIENCE, async || {
        let now = dropped(cluster, node, what).await?;
        ensure!(now > before, "{what:?} is still {now}");
        Ok(())
    })
    .await
}

#[derive(Debug, Clone, Copy)]
enum Dropped {
    FromPods,
    FromStrangers,
    Forged,
}

async fn dropped(cluster: &Cluster, node: &str, what: Dropped) -> Result<u64> {
    let status = cluster.agent(node).weft().status().await?;
    Ok(match what {
        Dropped::FromPods => status.dropped_tunnel_packets_from_pods,
        Dropped::FromStrangers => status.dropped_tunnel_packets_from_strangers,
        Dropped::Forged => status.dropped_forged_tunnel_packets,
    })
}

/// Where the tunnel of a node listens.
fn tunnel(cluster: &Cluster, node: &str) -> SocketAddr {
    SocketAddr::new(cluster.lab().host(node).address(cluster.lab().spec().outer), VXLAN_PORT)
}

/// Forger on a1, victim on b1, the neighbour it pretends to be on a2.
async fn scene(spec: LabSpec) -> Result<(Cluster, [Pod; 3])> {
    let cluster = Cluster::start(spec).await?;
    let pods =
        [cluster.pod("a1", "forger").await?, cluster.pod("b1", "victim").await?, cluster.pod("a2", "honest").await?];
    Ok((cluster, pods))
}

/// Node a1 speaks for its own pod and is heard, and then for a pod of a2.
async fn members_speak_for_their_own_pods(spec: LabSpec) -> Result<()> {
    let (cluster, [own, victim, honest]) = scene(spec).await?;
    let member = cluster.lab().host("a1").net();
    for family in Family::ALL {
        // Without this, the other tests would pass with a packet that nobody would take.
        let target = Target::new(&cluster, &victim, &own, family).await?;
        target.send(&member, tunnel(&cluster, "b1"))?;
        ensure!(target.receive()? == SECRET, "{family}: a packet that is as it should be");
        let strangers = dropped(&cluster, "b1", Dropped::FromStrangers).await?;
        let before = dropped(&cluster, "b1", Dropped::Forged).await?;
        let target = Target::new(&cluster, &victim, &honest, family).await?;
        target.send(&member, tunnel(&cluster, "b1"))?;
        counted(&cluster, "b1", Dropped::Forged, before).await?;
        target.expect_nothing_before(&honest)?;
        ensure!(dropped(&cluster, "b1", Dropped::FromStrangers).await? == strangers, "a member is no stranger");
        ensure!(dropped(&cluster, "b1", Dropped::Forged).await? == before + 1, "an honest packet counts as forged");
    }
    Ok(())
}

lab_test!(a_tunnel_packet_of_a_member_for_another_nodes_pod_is_dropped_and_counted, async || {
    members_speak_for_their_own_pods(LabSpec::default()).await
});

lab_test!(a_tunnel_packet_of_a_member_for_another_nodes_pod_over_ipv6_is_dropped_and_counted, async || {
    members_speak_for_their_own_pods(LabSpec { outer: Family::V6, ..LabSpec::default() }).await
});

lab_test!(a_tunnel_packet_of_a_pod_is_dropped_and_counted, async || {
    let (cluster, [forger, victim, honest]) = scene(LabSpec::default()).await?;
    for family in Family::ALL {
        let target = Target::new(&cluster, &victim, &honest, family).await?;
        let before = dropped(&cluster, "a1", Dropped::FromPods).await?;
        target.send(forger.net(), tunnel(&cluster, "b1"))?;
        counted(&cluster, "a1", Dropped::FromPods, before).await?;
        target.expect_nothing_before(&honest)?;
    }
    Ok(())
});

lab_test!(a_tunnel_packet_of_a_pod_to_its_own_node_is_dropped_and_counted, async || {
    let (cluster, [forger, _, honest]) = scene(LabSpec::default()).await?;
    let victim = cluster.pod("a1", "neighbour").await?;
    let target = Target::new(&cluster, &victim, &honest, Family::V4).await?;
    let before =
        (dropped(&cluster, "a1", Dropped::FromPods).await?, dropped(&cluster, "a1", Dropped::FromStrangers).await?);
    target.send(forger.net(), tunnel(&cluster, "a1"))?;
    wait::until("a1 to count a dropped packet", wait::PATIENCE, async || {
        let pods = dropped(&cluster, "a1", Dropped::FromPods).await?;
        let strangers = dropped(&cluster, "a1", Dropped::FromStrangers).await?;
        ensure!((pods, strangers) != before, "the counters are still {before:?}");
        Ok(())
    })
    .await?;
    target.expect_nothing_before(&honest)
});

lab_test!(a_tunnel_packet_of_a_pod_through_a_service_is_dropped_and_counted, async || {
    let (cluster, [forger, victim, honest]) = scene(LabSpec::default()).await?;
    let target = Target::new(&cluster, &victim, &honest, Family::V4).await?;
    let service: SocketAddrV4 = "10.96.0.10:53".parse()?;
    let SocketAddr::V4(node) = tunnel(&cluster, "b1") else { bail!("the outer family is IPv4") };
    nat::translate_udp(&cluster.lab().host("a1").net(), service, node)?;
    let before = dropped(&cluster, "a1", Dropped::FromPods).await?;
    target.send(forger.net(), service.into())?;
    counted(&cluster, "a1", Dropped::FromPods, before).await?;
    target.expect_nothing_before(&honest)
});

/// From the world beyond and from a host that shares a link with a node, none of them a member.
async fn strangers_are_dropped(spec: LabSpec) -> Result<()> {
    let (cluster, [_forger, victim, honest]) = scene(spec).await?;
    cluster.lab().add_host("b", "stranger").await?;
    for stranger in [OUTSIDE, "stranger"] {
        let target = Target::new(&cluster, &victim, &honest, Family::V4).await?;
        let before = dropped(&cluster, "b1", Dropped::FromStrangers).await?;
        target.send(&cluster.lab().host(stranger).net(), tunnel(&cluster, "b1"))?;
        counted(&cluster, "b1", Dropped::FromStrangers, before).await?;
        target.expect_nothing_before(&honest)?;
    }
    Ok(())
}

lab_test!(a_tunnel_packet_of_a_stranger_is_dropped_and_counted, async || {
    strangers_are_dropped(LabSpec::default()).await
});

lab_test!(a_tunnel_packet_of_a_stranger_over_ipv6_is_dropped_and_counted, async || {
    strangers_are_dropped(LabSpec { outer: Family::V6, ..LabSpec::default() }).await
});

lab_test!(a_node_that_was_deleted_is_a_stranger, async || {
    let (cluster, [forger, victim, honest]) = scene(LabSpec::default()).await?;
    forger.delete().await?;
    let target = Target::new(&cluster, &victim, &honest, Family::V4).await?;
    cluster.delete("a1").await?;
    cluster.ready().await?;
    let before = dropped(&cluster, "b1", Dropped::FromStrangers).await?;
    target.send(&cluster.lab().host("a1").net(), tunnel(&cluster, "b1"))?;
    counted(&cluster, "b1", Dropped::FromStrangers, before).await?;
    target.expect_nothing_before(&honest)
});

lab_test!(an_address_in_no_nodes_share_never_leaves_the_node, async || {
    let (cluster, [pod, _, _]) = scene(LabSpec::default()).await?;
    let wires = Wires::tap(&cluster).await?;
    for nobody in ["10.244.250.7", "fd44:5745:0:fa::7"] {
        let nobody: IpAddr = nobody.parse()?;
        let from_pod = pod.ping(nobody).await?;
        ensure!(matches!(from_pod, Answer::Unreachable { .. }), "{nobody}: {from_pod:?}");
        for (node, capture) in wires.uplinks() {
            let about = |packet: &weft_e2e::lab::packet::Packet| {
                packet.ip.dst == nobody
                    || packet.tunnel.and_then(|tunnel| tunnel.inner).is_some_and(|inner| inner.dst == nobody)
            };
            capture.expect_none(&format!("to {nobody} at {node}"), about)?;
        }
    }
    Ok(())
});

lab_test!(an_unused_address_of_a_share_is_answered_by_the_node_that_has_it, async || {
    let (cluster, [pod, _, _]) = scene(LabSpec::default()).await?;
    for node in ["a2", "b2"] {
        let peer = cluster.controller().weft().peer(node).await?;
        for cidr in &peer.pod_cidrs {
            let network: IpNetwork = cidr.parse()?;
            let unused = offset(network, 199);
            let answer = pod.ping(unused).await?;
            let Answer::Unreachable { by, .. } = answer else { bail!("{unused} on {node}: {answer:?}") };
            let host = cluster.lab().host(node);
            let theirs = network.contains(by) || host.addresses().iter().any(|own| own.address() == by);
            ensure!(theirs, "{unused} of {node} was answered by {by}");
        }
    }
    Ok(())
});

fn offset(network: IpNetwork, by: u8) -> IpAddr {
    match network.network() {
        IpAddr::V4(v4) => std::net::Ipv4Addr::from(u32::from(v4) + u32::from(by)).into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6) + u128::from(by)).into(),
    }
}
