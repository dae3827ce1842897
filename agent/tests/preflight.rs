//! What the preflight finds on hosts that have a problem, and that it finds nothing on one that has none. Every test
//! has a network namespace of its own as its host.

#[path = "support/foreign.rs"]
mod foreign;
#[path = "support/netns.rs"]
mod netns;

use std::net::UdpSocket;

use foreign::{Edit, Foreign, rule, text, verdict};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netns::{address, inside, routes, sysctl, up};
use rtnetlink::{LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder, packet_route::route::RouteProtocol};
use weft_agent::preflight::{Finding, Input, Severity, preflight};
use weft_core::{
    settings::{Mode, Settings},
    types::{Family, Vni},
};

fn input(outer: Family) -> Input {
    let pools = vec!["10.244.0.0/16".parse().expect("a CIDR"), "fd00:244::/48".parse().expect("a CIDR")];
    let vni = Vni::new(87).expect("in range");
    let settings = Settings { pools, mode: Mode::CrossSubnet, vni, port: 4789, outer, more: Default::default() };
    Input { interface: Some("eth0".parse().expect("a name")), settings: Some(settings), ..Input::default() }
}

/// A host with `eth0` at 10.0.0.1/24 and fd00:a::1/64, and nothing wrong.
async fn host() {
    let handle = routes();
    up(&handle, "lo").await;
    handle.link().add(LinkVeth::new("eth0", "switch").build()).execute().await.expect("a link");
    up(&handle, "switch").await;
    up(&handle, "eth0").await;
    address(&handle, "eth0", "10.0.0.1/24").await;
    address(&handle, "eth0", "fd00:a::1/64").await;
    sysctl("ipv4/conf/all/rp_filter", "0");
    sysctl("ipv4/conf/eth0/rp_filter", "2");
}

async fn find() -> Vec<Finding> {
    preflight(&input(Family::V4)).await
}

/// The only finding, which must be this one and say all of `words`.
fn only(findings: &[Finding], severity: Severity, code: &str, words: &[&str]) {
    let [finding] = findings else { panic!("expected {code} alone: {findings:#?}") };
    assert_eq!((finding.severity, finding.code), (severity, code), "{findings:#?}");
    for word in words {
        assert!(finding.message.contains(word), "{word:?} is missing in: {}", finding.message);
    }
}

async fn route(to: &str, protocol: u8) {
    let (to, prefix) = to.split_once('/').expect("address/prefix");
    let (to, prefix) = (to.parse().expect("an address"), prefix.parse().expect("a prefix"));
    let message = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
        .destination_prefix(to, prefix)
        .gateway([10, 0, 0, 254].into())
        .protocol(RouteProtocol::Other(protocol))
        .build();
    routes().route().add(message).execute().await.expect("a route");
}

#[test]
fn a_sound_host_has_no_findings_and_stays_as_it_was() {
    inside("a_sound_host_has_no_findings_and_stays_as_it_was", || async {
        host().await;
        let links = || std::fs::read_to_string("/proc/net/dev").expect("readable").lines().count();
        let before = (links(), Foreign::open().generation());
        assert_eq!(find().await, []);
        assert_eq!(preflight(&Input::default()).await, [], "without settings either");
        assert_eq!((links(), Foreign::open().generation()), before);
    });
}

#[test]
fn every_problem_is_found_at_once_errors_first() {
    inside("every_problem_is_found_at_once_errors_first", || async {
        host().await;
        sysctl("ipv4/conf/eth0/rp_filter", "1");
        address(&routes(), "eth0", "10.244.3.1/24").await;
        let _holder = UdpSocket::bind("0.0.0.0:4789").expect("the port is free");
        let findings = find().await;
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["PortTaken", "PoolOverlapsSubnet", "StrictReversePath"], "{findings:#?}");
    });
}

#[test]
fn another_vxlan_device_in_the_way_is_named() {
    inside("another_vxlan_device_in_the_way_is_named", || async {
        host().await;
        let handle = routes();
        let add = async |name: &str, vni| {
            let message = LinkVxlan::new(name, vni).port(4789).build();
            handle.link().add(message).execute().await.expect(name);
        };
        let delete = async |name: &str| {
            let index = netns::index(&handle, name).await;
            handle.link().del(index).execute().await.expect(name);
        };
        add("flannel.1", 1).await;
        up(&handle, "flannel.1").await;
        assert_eq!(find().await, [], "two devices share a port when their VNIs differ");

        add("theirs", 87).await;
        only(&find().await, Severity::Error, "VniTaken", &["theirs", "VNI 87", "port 4789", "ip link delete theirs"]);
        delete("theirs").await;
        delete("flannel.1").await;

        let message = LinkVxlan::new("cilium_vxlan", 0).collect_metadata(true).port(4789).build();
        handle.link().add(message).execute().await.expect("a device for all VNIs");
        only(&find().await, Severity::Error, "PortTaken", &["cilium_vxlan", "port 4789", "--port"]);
        let v6 = preflight(&input(Family::V6)).await;
        assert_eq!(v6, [], "it has no socket of the other family");
    });
}

#[test]
fn our_own_device_is_not_in_its_own_way() {
    inside("our_own_device_is_not_in_its_own_way", || async {
        host().await;
        let handle = routes();
        handle.link().add(LinkVxlan::new("weft0", 87).port(4789).build()).execute().await.expect("a device");
        let index = netns::index(&handle, "weft0").await;
        let alias = rtnetlink::packet_route::link::LinkAttribute::IfAlias("weft".to_owned());
        let message = LinkUnspec::new_with_index(index).append_extra_attribute(alias).up().build();
        handle.link().set(message).execute().await.expect("its alias");
        address(&handle, "weft0", "10.244.1.0/32").await;
        route("10.244.2.0/24", 87).await;
        assert_eq!(find().await, []);
    });
}

#[test]
fn a_program_on_the_port_is_named() {
    inside("a_program_on_the_port_is_named", || async {
        host().await;
        let holder = UdpSocket::bind("10.0.0.1:4789").expect("the port is free");
        let me = std::fs::read_to_string("/proc/self/comm").expect("readable");
        only(&find().await, Severity::Error, "PortTaken", &["UDP port 4789", me.trim(), "ss -lunp"]);
        assert_eq!(preflight(&input(Family::V6)).await, [], "an IPv4 socket does not hold the IPv6 port");
        drop(holder);
        assert_eq!(find().await, []);
    });
}

#[test]
fn networks_that_overlap_a_pool_are_named() {
    inside("networks_that_overlap_a_pool_are_named", || async {
        host().await;
        let handle = routes();
        address(&handle, "eth0", "fd00:244:0:7::1/64").await;
        let words = ["fd00:244::/48", "fd00:244:0:7::/64", "eth0", "ip address delete fd00:244:0:7::1/64 dev eth0"];
        only(&find().await, Severity::Error, "PoolOverlapsSubnet", &words);
    });
}

#[test]
fn routes_that_overlap_a_pool_are_named() {
    inside("routes_that_overlap_a_pool_are_named", || async {
        host().await;
        route("0.0.0.0/0", 3).await;
        route("192.0.2.0/24", 3).await;
        assert_eq!(find().await, [], "neither a default route nor one elsewhere is in the way");
        route("10.0.0.0/8", 3).await;
        only(&find().await, Severity::Warning, "PoolInsideRoute", &["10.244.0.0/16", "10.0.0.0/8", "eth0"]);
        route("10.244.9.0/24", 3).await;
        let findings = find().await;
        only(&findings[..1], Severity::Error, "PoolOverlapsRoute", &["10.244.9.0/24", "ip route delete 10.244.9.0/24"]);
        assert_eq!(findings.len(), 2, "{findings:#?}");
    });
}

#[test]
fn a_firewall_that_drops_forwarded_packets_is_named() {
    inside("a_firewall_that_drops_forwarded_packets_is_named", || async {
        use foreign::{DELETE_TABLE, NEW_TABLE, base_chain};
        host().await;
        let foreign = Foreign::open();
        let table = |name| Edit::new(NEW_TABLE, &[text(1, name)]);
        // Drops elsewhere, or of some packets only, are none of our business.
        let interface = ("meta", vec![foreign::number(2, 4), foreign::number(1, 1)]);
        let matches =
            ("cmp", vec![foreign::number(1, 1), foreign::number(2, 0), foreign::nest(3, &[foreign::number(1, 9)])]);
        foreign.edit(&[
            table("guard"),
            base_chain("guard", "input", 1, 0, 0),
            base_chain("guard", "forward", 2, 0, 1),
            rule("guard", "forward", &[interface, matches, verdict(0)]),
        ]);
        assert_eq!(find().await, []);

        foreign.edit(&[rule("guard", "forward", &[("counter", vec![]), verdict(0)])]);
        let words = ["chain forward", "inet guard", "nft insert rule inet guard forward ip saddr 10.244.0.0/16 accept"];
        only(&find().await, Severity::Warning, "FirewallDropsForwarded", &words);
        foreign.edit(&[Edit::new(DELETE_TABLE, &[text(1, "guard")])]);

        // As Docker leaves it behind.
        let of = |family, edit: Edit| edit.family(family);
        let ipv4 = NetfilterProtoFamily::IPv4;
        foreign.edit(&[of(ipv4, table("filter")), of(ipv4, base_chain("filter", "FORWARD", 2, 0, 0))]);
        let findings = find().await;
        only(&findings, Severity::Warning, "FirewallDropsForwarded", &["FORWARD", "ip filter", "policy drop"]);
        assert!(!findings[0].message.contains("fd00:244::"), "IPv6 does not pass there: {}", findings[0].message);
    });
}

#[test]
fn strict_reverse_path_filtering_is_named_where_paths_switch() {
    inside("strict_reverse_path_filtering_is_named_where_paths_switch", || async {
        host().await;
        sysctl("ipv4/conf/eth0/rp_filter", "0");
        sysctl("ipv4/conf/all/rp_filter", "1");
        only(&find().await, Severity::Warning, "StrictReversePath", &["eth0", "net.ipv4.conf.eth0.rp_filter=2"]);
        let mut always = input(Family::V4);
        always.settings.as_mut().expect("they are given").mode = Mode::Always;
        assert_eq!(preflight(&always).await, []);
    });
}

#[test]
fn missing_capabilities_are_named_once() {
    inside("missing_capabilities_are_named_once", || async {
        host().await;
        let without = std::thread::spawn(|| {
            use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
            let kept = CapabilitySet::SYS_ADMIN;
            set_capabilities(
                None,
                CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
            )
            .expect("capabilities can be given up");
            netns::block_on(find())
        });
        let findings = without.join().expect("no panic");
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["NoNetAdmin", "NoNetRaw"], "{findings:#?}");
        assert!(findings[0].message.contains("CAP_NET_ADMIN") && findings[0].message.contains("AmbientCapabilities"));
    });
}
