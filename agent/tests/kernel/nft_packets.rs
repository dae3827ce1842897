//! Packets under the rules of table `inet weft`: who may send tunnel packets, and whose address packets carry outside.
//! Every test has network namespaces of its own. That a packet does not arrive shows by a later one that does.

use weft_agent::kernel::nft::Nft;
use weft_core::{
    diff::Op,
    kernel::{Key, Seen, Value},
    nft::{CounterName, SetName},
    types::Family,
};

use crate::{
    netns::{self, Namespace, inside},
    packets::{self, PORT, listen, next, send, tunnel, vxlan, vxlan_from},
    table::{apply, element, pair, programmed, put, put_rules},
};

async fn strangers(nft: &mut Nft) -> u64 {
    nft.counter(CounterName::TunnelFromStranger).await.expect("a figure")
}

async fn forged(nft: &mut Nft) -> u64 {
    nft.counter(CounterName::TunnelForged).await.expect("a figure")
}

async fn pods(nft: &mut Nft) -> u64 {
    nft.counter(CounterName::TunnelFromPod).await.expect("a figure")
}

#[test]
fn tunnel_packets_are_taken_from_members_only() {
    inside("nft_packets::tunnel_packets_are_taken_from_members_only", || async {
        packets::loopback().await;
        let mut nft = programmed().await;
        for (family, [me, member, stranger]) in [
            (Family::V4, ["10.0.0.1", "10.0.0.9", "10.0.0.66"]),
            (Family::V6, ["fd00:a::1", "fd00:a::9", "fd00:a::66"]),
        ] {
            let own = vxlan_from(87, "10.244.9.5");
            let bound = pair(member, "10.244.9.0/24");
            apply(&mut nft, &[put_rules(family), put(bound, Value::Present)]).await;
            let before = strangers(&mut nft).await;
            let socket = listen(me, PORT);
            send(stranger, 0, me, PORT, &own);
            // Somebody else's VXLAN on the same port is none of our business.
            tunnel(stranger, me, 88);
            send(member, 0, me, PORT, &own);
            let (first, second) = (next(&socket), next(&socket));
            assert_eq!((first.0.ip().to_string(), first.1), (stranger.to_owned(), vxlan(88)));
            assert_eq!((second.0.ip().to_string(), second.1), (member.to_owned(), own.clone()));
            assert_eq!(strangers(&mut nft).await - before, 1, "{family}");

            // A member that leaves is a stranger from then on.
            let peer = Key::Element(SetName::Peers(family), member.parse().expect("a host"));
            let gone = [peer, bound].map(|key| Op::Delete { key, old: Seen::As(Value::Present) });
            apply(&mut nft, &gone).await;
            send(member, 0, me, PORT, &own);
            tunnel(member, me, 88);
            assert_eq!(next(&socket).1, vxlan(88));
            assert_eq!(strangers(&mut nft).await - before, 2, "{family}");
        }
    });
}

/// What member .9 sends for pods of its own, in both lengths that there are, arrives; nothing else of it does.
#[test]
fn members_send_tunnel_packets_of_their_own_pods_only() {
    inside("nft_packets::members_send_tunnel_packets_of_their_own_pods_only", || async {
        packets::loopback().await;
        let mut nft = programmed().await;
        for (family, [me, member, other]) in [
            (Family::V4, ["10.0.0.1", "10.0.0.9", "10.0.0.66"]),
            (Family::V6, ["fd00:a::1", "fd00:a::9", "fd00:a::66"]),
        ] {
            let peer = element(SetName::Peers(family), &format!("{other}/{}", family.bits()));
            let mut ops = vec![put_rules(family), put(peer, Value::Present)];
            let of_member = ["10.244.32.0/20", "10.244.64.0/24", "fd00:244:0:9::/64"].map(|inner| pair(member, inner));
            let of_other = ["10.244.10.0/24", "fd00:244:0:a::/64"].map(|inner| pair(other, inner));
            ops.extend(of_member.into_iter().chain(of_other).map(|key| put(key, Value::Present)));
            apply(&mut nft, &ops).await;
            let before = (forged(&mut nft).await, strangers(&mut nft).await);
            let socket = listen(me, PORT);
            let mut arp = vxlan_from(87, "10.244.32.5");
            arp[8 + 13] = 0x06;
            let mut cut = vxlan_from(87, "10.244.32.5");
            cut.truncate(8 + 14 + 15);
            // Pods of others, and one that would be in its /24 if that were a /20; underlay addresses; no IP packet; half an
            // address.
            let sources = ["10.244.10.5", "10.244.70.5", "fd00:244:0:a::5", "10.0.0.9", "fd00:a::9", "fe80::1"];
            let wrong: Vec<_> = sources.into_iter().map(|source| vxlan_from(87, source)).chain([arp, cut]).collect();
            for packet in &wrong {
                send(member, 0, me, PORT, packet);
            }
            for own in ["10.244.32.0", "10.244.47.255", "10.244.64.9", "fd00:244:0:9::", "fd00:244:0:9:ffff::1"] {
                send(member, 0, me, PORT, &vxlan_from(87, own));
                assert_eq!(next(&socket).1, vxlan_from(87, own), "{own}");
            }
            let after = (forged(&mut nft).await, strangers(&mut nft).await);
            assert_eq!((after.0 - before.0, after.1 - before.1), (wrong.len() as u64, 0), "{family}");
        }
    });
}

#[test]
fn the_other_family_carries_no_tunnel_at_all() {
    inside("nft_packets::the_other_family_carries_no_tunnel_at_all", || async {
        packets::loopback().await;
        let mut nft = programmed().await;
        let socket = listen("fd00:a::1", PORT);
        // fd00:a::9 is in peers6, but outer packets are IPv4.
        tunnel("fd00:a::9", "fd00:a::1", 87);
        tunnel("fd00:a::9", "fd00:a::1", 88);
        assert_eq!(next(&socket).1, vxlan(88));
        assert_eq!(strangers(&mut nft).await, 1);
    });
}

/// This host between a pod and the outside. The pod has two members' addresses as well, to pretend with. No rp_filter
/// helps here.
async fn between_pod_and_outside() -> (Namespace, Namespace) {
    for which in ["all", "default"] {
        netns::sysctl(&format!("ipv4/conf/{which}/rp_filter"), "0");
    }
    let (pod, outside) = (Namespace::new(), Namespace::new());
    let of_pod = &["10.244.1.5/24", "10.0.0.10/32", "fd00:244::5/64", "fd00:a::9/128"];
    netns::join(&pod, "wpod0000000000a", &["10.244.1.1/24", "fd00:244::1/64"], of_pod).await;
    netns::join(&outside, "under0", &["10.0.0.1/24", "fd00:a::1/64"], &["10.0.0.8/24", "fd00:a::8/64"]).await;
    pod.run(|| {
        netns::block_on(async {
            netns::default_route(&netns::routes(), "10.244.1.1").await;
            netns::default_route(&netns::routes(), "fd00:244::1").await;
        });
    });
    netns::sysctl("ipv4/ip_forward", "1");
    netns::sysctl("ipv6/conf/all/forwarding", "1");
    (pod, outside)
}

#[test]
fn pods_send_no_tunnel_packets() {
    inside("nft_packets::pods_send_no_tunnel_packets", || async {
        let mut nft = programmed().await;
        let (pod, outside) = between_pod_and_outside().await;
        for (family, own, me, far) in
            [(Family::V4, "10.244.1.5", "10.0.0.1", "10.0.0.8"), (Family::V6, "fd00:244::5", "fd00:a::1", "fd00:a::8")]
        {
            apply(&mut nft, &[put_rules(family)]).await;
            let before = pods(&mut nft).await;
            let there = outside.run(move || listen(far, PORT));
            let here = listen(me, PORT);
            pod.run(move || {
                // To another host, and to this one.
                tunnel(own, far, 87);
                tunnel(own, far, 88);
                tunnel(own, me, 87);
                tunnel(own, me, 88);
            });
            assert_eq!(next(&there).1, vxlan(88));
            assert_eq!(next(&here).1, vxlan(88));
            assert_eq!(pods(&mut nft).await - before, 2, "{family}");
        }
    });
}

#[test]
fn pods_speak_under_their_own_address_only() {
    inside("nft_packets::pods_speak_under_their_own_address_only", || async {
        let mut nft = programmed().await;
        let (pod, outside) = between_pod_and_outside().await;
        for (own, forged, me, far) in [
            ("10.244.1.5", "10.0.0.10", "10.0.0.1", "10.0.0.8"),
            ("fd00:244::5", "fd00:a::9", "fd00:a::1", "fd00:a::8"),
        ] {
            let before = nft.counter(CounterName::ForgedByPod).await.expect("a figure");
            let there = outside.run(move || listen(far, 5000));
            let here = listen(me, 5000);
            pod.run(move || {
                for to in [far, me] {
                    send(forged, 0, to, 5000, b"forged");
                    send(own, 0, to, 5000, b"own");
                }
            });
            assert_eq!((next(&there).1, next(&here).1), (b"own".to_vec(), b"own".to_vec()));
            let after = nft.counter(CounterName::ForgedByPod).await.expect("a figure");
            assert_eq!(after - before, 2, "what IPv6 sends by itself is no forgery");
        }
    });
}

#[test]
fn the_gateway_has_no_services() {
    inside("nft_packets::the_gateway_has_no_services", || async {
        let mut nft = programmed().await;
        let (pod, _outside) = between_pod_and_outside().await;
        // Somebody gave the host what pods call their gateway, and listens everywhere.
        netns::address(&netns::routes(), "wpod0000000000a", "169.254.87.1/32").await;
        netns::address(&netns::routes(), "wpod0000000000a", "fe80::5745/64").await;
        let scope = pod.run(|| {
            let text = std::fs::read_to_string("/proc/thread-self/net/if_inet6").expect("IPv6");
            let line = text.lines().find(|line| line.ends_with("eth0") && line.contains(" 20 ")).expect("link-local");
            u32::from_str_radix(line.split_whitespace().nth(1).expect("an index"), 16).expect("a number")
        });
        let gateway = std::net::SocketAddrV6::new("fe80::5745".parse().expect("an address"), 5000, 0, scope);
        for (any, own, node) in [("0.0.0.0", "10.244.1.5", "10.244.1.1"), ("::", "fd00:244::5", "fd00:244::1")] {
            let service = listen(any, 5000);
            pod.run(move || {
                if any == "::" {
                    let socket = std::net::UdpSocket::bind((own, 0)).expect("the pod has it");
                    socket.send_to(b"to the gateway", gateway).expect("sent");
                } else {
                    send(own, 0, "169.254.87.1", 5000, b"to the gateway");
                }
                send(own, 0, node, 5000, b"to the node");
            });
            assert_eq!(next(&service).1, b"to the node");
        }
        assert_eq!(nft.counter(CounterName::PodToGateway).await.expect("a figure"), 2);
    });
}

#[test]
fn pods_go_outside_under_the_hosts_address_and_never_from_the_tunnels_port() {
    inside("nft_packets::pods_go_outside_under_the_hosts_address_and_never_from_the_tunnels_port", || async {
        let _nft = programmed().await;
        let (pod, outside) = between_pod_and_outside().await;
        for (own, me, far) in [("10.244.1.5", "10.0.0.1", "10.0.0.8"), ("fd00:244::5", "fd00:a::1", "fd00:a::8")] {
            let there = outside.run(move || listen(far, 5000));
            // A kernel that is not told otherwise keeps the source port.
            pod.run(move || send(own, PORT, far, 5000, b"from the tunnel's port"));
            let (from, _) = next(&there);
            assert_eq!(from.ip().to_string(), me);
            assert!(from.port() > PORT, "port {} is not of the range", from.port());
            // Ports are drawn at random, not kept: that all eight are kept by chance is out of the question.
            let kept = (0..8).filter(|_| {
                let chosen = pod.run(move || send(own, 0, far, 5000, b"any"));
                let (from, _) = next(&there);
                assert!(from.port() > PORT, "port {} is not of the range", from.port());
                from.port() == chosen
            });
            assert!(kept.count() < 8, "source ports are not drawn at random");
        }
    });
}

#[test]
fn what_enters_the_tunnel_has_an_overlay_address() {
    inside("nft_packets::what_enters_the_tunnel_has_an_overlay_address", || async {
        let _nft = programmed().await;
        let (pod, _outside) = between_pod_and_outside().await;
        let far = Namespace::new();
        // Its name alone makes it the tunnel's device.
        netns::join(&far, "weft0", &["10.244.9.1/24", "fd00:244:0:9::1/64"], &["10.244.9.5/24", "fd00:244:0:9::5/64"])
            .await;
        far.run(|| {
            netns::block_on(async {
                netns::default_route(&netns::routes(), "10.244.9.1").await;
                netns::default_route(&netns::routes(), "fd00:244:0:9::1").await;
            });
        });
        for (me, own, vtep, to) in [
            ("10.0.0.1", "10.244.1.5", "10.244.9.1", "10.244.9.5"),
            ("fd00:a::1", "fd00:244::5", "fd00:244:0:9::1", "fd00:244:0:9::5"),
        ] {
            let there = far.run(move || listen(to, 5000));
            send(me, 0, to, 5000, b"from the host's own address");
            assert_eq!(next(&there).0.ip().to_string(), vtep);
            pod.run(move || send(own, 0, to, 5000, b"from a pod"));
            assert_eq!(next(&there).0.ip().to_string(), own, "pods keep their addresses inside the overlay");
        }
    });
}
