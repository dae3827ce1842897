//! The lab itself: what every test built on it relies on.

use std::time::Duration;

use anyhow::{Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    lab::{
        Capture, Lab, LabSpec, OUTSIDE, Stream, UPLINK, Underlay,
        echo::{Echo, Transport, exchange},
        packet::{Direction, Packet},
        ping::{Answer, PATIENCE, ping},
    },
    lab_test,
};

/// Every host reaches every other in every family the underlay carries, and in no other.
async fn everybody_reaches_everybody(underlay: Underlay) -> Result<()> {
    let lab = Lab::start(LabSpec::default().underlay(underlay)).await?;
    for (from, to) in [("a1", "a2"), ("a1", "b1"), ("b2", "control"), ("a2", OUTSIDE), ("outside", "b1")] {
        for family in Family::ALL {
            let (source, target) = (lab.host(from), lab.host(to));
            if underlay.carries(family) {
                let answer = ping(&source.net(), target.address(family), PATIENCE).await?;
                ensure!(matches!(answer, Answer::Reply { .. }), "{from} to {to} over {family}: {answer:?}");
            } else {
                ensure!(target.addresses().get(family).is_none(), "{to} has an {family} address");
            }
        }
    }
    Ok(())
}

lab_test!(subnets_reach_each_other_over_a_dual_stack_underlay, async || {
    everybody_reaches_everybody(Underlay::Dual).await
});
lab_test!(subnets_reach_each_other_over_an_ipv4_underlay, async || {
    everybody_reaches_everybody(Underlay::Only(Family::V4)).await
});
lab_test!(subnets_reach_each_other_over_an_ipv6_underlay, async || {
    everybody_reaches_everybody(Underlay::Only(Family::V6)).await
});

lab_test!(captures_see_what_passes_and_nothing_else, async || {
    let lab = Lab::start(LabSpec::default()).await?;
    let (a1, a2, b1) = (lab.host("a1"), lab.host("a2"), lab.host("b1"));
    let router = Capture::start(lab.router(), "net-a")?;
    let uplink = Capture::start(&b1.net(), UPLINK)?;
    for family in Family::ALL {
        ping(&a1.net(), b1.address(family), PATIENCE).await?.reply()?;
        ping(&a1.net(), a2.address(family), PATIENCE).await?.reply()?;
        let request = |packet: &Packet| packet.ip.src == a1.address(family) && packet.ip.dst == b1.address(family);
        ensure!(router.count(|packet| request(packet) && packet.direction == Direction::In)? == 1, "request, router");
        ensure!(uplink.count(|packet| request(packet) && packet.direction == Direction::In)? == 1, "request, b1");
        let reply = |packet: &Packet| packet.ip.dst == a1.address(family) && packet.direction == Direction::Out;
        ensure!(uplink.count(|packet| reply(packet) && packet.ip.icmp.is_some())? == 1, "reply, b1");
        router.expect_none("inside a subnet", |packet| packet.touches(|address| address == a2.address(family)))?;
    }
    ensure!(uplink.expect_none("the test's own packets", |packet| packet.ip.icmp.is_some()).is_err());
    Ok(())
});

lab_test!(the_router_knows_no_pods_and_says_so, async || {
    let lab = Lab::start(LabSpec::default()).await?;
    for (pod, router) in [("10.244.7.7", "10.87.1.1"), ("fd44:5745:0:7::7", "fd87:0:0:1::1")] {
        let answer = ping(&lab.host("a1").net(), pod.parse()?, PATIENCE).await?;
        let said = matches!(answer, Answer::Unreachable { by, .. } if by == router.parse::<std::net::IpAddr>()?);
        ensure!(said, "{pod}: {answer:?}");
    }
    Ok(())
});

lab_test!(echo_tells_whom_it_saw_in_both_transports, async || {
    let lab = Lab::start(LabSpec::default().hosts(1)).await?;
    let (a1, b1) = (lab.host("a1"), lab.host("b1"));
    for (family, transport) in
        Family::ALL.into_iter().flat_map(|family| [(family, Transport::Tcp), (family, Transport::Udp)])
    {
        let server = Echo::start(&b1.net(), transport, (b1.address(family), 0).into())?;
        let own = exchange(&a1.net(), transport, server.address(), &[7; 900]).await?;
        ensure!(own.ip() == a1.address(family), "the client's address was {own}");
        ensure!(server.peers() == [own], "{transport:?}: the server saw {:?}, not {own}", server.peers());
    }
    Ok(())
});

lab_test!(a_stream_counts_what_an_outage_costs, async || {
    let lab = Lab::start(LabSpec::default().hosts(1)).await?;
    let (a1, b1) = (lab.host("a1"), lab.host("b1"));
    // Packets wait for the answer of a neighbour, but not more than some 250: on a busy host the stream would begin with a loss.
    ping(&a1.net(), b1.address(Family::V4), PATIENCE).await?.reply()?;
    let quiet = Stream::start(&a1.net(), &b1.net(), b1.address(Family::V4), 1000)?;
    quiet.pass(300).await;
    quiet.stop().await?.expect_no_loss(300)?;

    let cut = Stream::start(&a1.net(), &b1.net(), b1.address(Family::V4), 1000)?;
    cut.pass(100).await;
    b1.set_connected(false).await?;
    cut.pass(100).await;
    b1.set_connected(true).await?;
    let before = cut.received();
    while cut.received() < before + 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let account = cut.stop().await?;
    ensure!(account.lost_packets() >= 90, "100 packets were sent into a cut cable: {account:?}");
    ensure!(account.lost_packets() < account.sent, "nothing came back after the cut: {account:?}");
    Ok(())
});

lab_test!(links_have_the_mtu_and_the_strictness_asked_for, async || {
    let lab = Lab::start(LabSpec { mtu: 1400, ..LabSpec::default().hosts(1) }).await?;
    for net in [lab.host("a1").net(), lab.host(OUTSIDE).net()] {
        ensure!(read(&net, "/proc/sys/net/ipv6/conf/eth0/mtu")?.trim() == "1400");
        ensure!(read(&net, "/proc/sys/net/ipv4/conf/eth0/rp_filter")?.trim() == "1");
    }
    let read_router = read(lab.router(), "/proc/sys/net/ipv4/conf/net-a/rp_filter")?;
    ensure!(read_router.trim() == "1", "the router's rp_filter is {read_router}");
    Ok(())
});

fn read(net: &weft_e2e::lab::Namespace, path: &'static str) -> Result<String> {
    Ok(net.enter(move || std::fs::read_to_string(path))?)
}
