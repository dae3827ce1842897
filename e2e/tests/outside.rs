//! Hosts and the world outside the overlay, with strict reverse path filtering on every link.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Cluster, Pod},
    lab::{
        Capture, Host, LabSpec, Namespace, OUTSIDE, Underlay,
        echo::{Echo, Transport, exchange},
        ping::{PATIENCE, ping},
    },
    lab_test,
};

const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// Asks a server over both transports and returns the addresses it saw.
async fn seen_by(server: &Namespace, address: IpAddr, client: &Namespace) -> Result<Vec<IpAddr>> {
    let mut seen = Vec::new();
    for transport in TRANSPORTS {
        let server = Echo::start(server, transport, (address, 0).into())?;
        exchange(client, transport, server.address(), b"who am I?").await?;
        seen.extend(server.peers().into_iter().map(|peer| peer.ip()));
    }
    ensure!(seen.len() == TRANSPORTS.len(), "the server saw {seen:?}");
    Ok(seen)
}

fn is_address_of(host: &Host, address: IpAddr) -> bool {
    host.addresses().iter().any(|own| own.address() == address)
}

lab_test!(hosts_reach_remote_pods, async || {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let host = cluster.lab().host("a1");
    for node in ["a1", "a2", "b1"] {
        let pod = cluster.pod(node, &format!("{node}-p")).await?;
        for family in Family::ALL {
            ping(&host.net(), pod.address(family), PATIENCE).await?.reply()?;
            seen_by(pod.net(), pod.address(family), &host.net()).await?;
        }
    }
    Ok(())
});

lab_test!(pods_reach_hosts_and_are_seen_with_their_nodes_address, async || {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let pod = cluster.pod("a1", "a1-p").await?;
    for name in ["a2", "b1", "control", OUTSIDE] {
        let host = cluster.lab().host(name);
        for family in Family::ALL {
            pod.reaches(host.address(family)).await?;
            let seen = seen_by(&host.net(), host.address(family), pod.net()).await?;
            let node = cluster.lab().host("a1");
            ensure!(seen.iter().all(|address| is_address_of(&node, *address)), "{name} saw {seen:?} over {family}");
        }
    }
    // Its own node sees the pod as it is: nothing left the node.
    let own = cluster.lab().host("a1");
    for family in Family::ALL {
        pod.reaches(own.address(family)).await?;
    }
    Ok(())
});

lab_test!(no_pod_address_ever_shows_outside, async || {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let pod = cluster.pod("b1", "b1-p").await?;
    let outside = cluster.lab().host(OUTSIDE);
    let capture = Capture::start(&outside.net(), "eth0")?;
    for family in Family::ALL {
        seen_by(&outside.net(), outside.address(family), pod.net()).await?;
        let hidden = pod.address(family);
        capture.expect_none("the pod's own address", |packet| packet.touches(|address| address == hidden))?;
    }
    Ok(())
});

lab_test!(pods_see_each_other_as_they_are, async || {
    let cluster = Cluster::start(LabSpec::default()).await?;
    let client = cluster.pod("a1", "a1-p").await?;
    for node in ["a1", "a2", "b1"] {
        let server: Pod = cluster.pod(node, &format!("{node}-server")).await?;
        for family in Family::ALL {
            let seen = seen_by(server.net(), server.address(family), client.net()).await?;
            ensure!(seen.iter().all(|address| *address == client.address(family)), "{node} saw {seen:?}");
        }
    }
    Ok(())
});

lab_test!(hosts_reach_remote_pods_of_a_family_their_underlay_does_not_carry, async || {
    let cluster = Cluster::start(LabSpec::default().underlay(Underlay::Only(Family::V6)).hosts(1)).await?;
    let pod = cluster.pod("b1", "b1-p").await?;
    for family in Family::ALL {
        ping(&cluster.lab().host("a1").net(), pod.address(family), PATIENCE).await?.reply()?;
        seen_by(pod.net(), pod.address(family), &cluster.lab().host("a1").net()).await?;
    }
    Ok(())
});
