//! What the preflight finds on hosts that have a problem, and that it finds nothing on one that has none. Every test
//! has a network namespace of its own as its host.

use std::net::UdpSocket;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::NetfilterProtoFamily;
use rtnetlink::{
    LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
    packet_route::route::{RouteProtocol, RouteType},
};
use weft_agent::preflight::{Finding, Input, Severity, preflight};
use weft_core::{
    encap::Encapsulation,
    settings::{Mode, Settings},
    types::{Family, Vni},
};

use crate::{
    foreign::{self, Edit, Foreign, nest, number, rule, text, verdict},
    netns::{self, address, inside, routes, sysctl, up},
};

fn input(outer: Family) -> Input {
    let pools = vec!["10.244.0.0/16".parse().expect("a CIDR"), "fd00:244::/48".parse().expect("a CIDR")];
    let vni = Vni::new(87).expect("in range");
    let settings = Settings {
        pools,
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni, port: 4789, outer },
        more: Default::default(),
    };
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
    inside("preflight::a_sound_host_has_no_findings_and_stays_as_it_was", || async {
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
    inside("preflight::every_problem_is_found_at_once_errors_first", || async {
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
    inside("preflight::another_vxlan_device_in_the_way_is_named", || async {
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

/// The device as the agent makes it, and its index.
async fn our_device(handle: &rtnetlink::Handle) -> u32 {
    handle.link().add(LinkVxlan::new("weft0", 87).port(4789).build()).execute().await.expect("a device");
    let index = netns::index(handle, "weft0").await;
    let alias = rtnetlink::packet_route::link::LinkAttribute::IfAlias("weft".to_owned());
    let message = LinkUnspec::new_with_index(index).append_extra_attribute(alias).up().build();
    handle.link().set(message).execute().await.expect("its alias");
    index
}

#[test]
fn our_own_device_is_not_in_its_own_way() {
    inside("preflight::our_own_device_is_not_in_its_own_way", || async {
        host().await;
        let handle = routes();
        our_device(&handle).await;
        address(&handle, "weft0", "10.244.1.0/32").await;
        route("10.244.2.0/24", 87).await;
        assert_eq!(find().await, []);
    });
}

#[test]
fn others_routes_into_the_tunnel_are_named() {
    inside("preflight::others_routes_into_the_tunnel_are_named", || async {
        host().await;
        let handle = routes();
        let index = our_device(&handle).await;
        let route = |to: &str, table: u32| {
            let (to, prefix) = to.split_once('/').expect("address/prefix");
            RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(to.parse().expect("an address"), prefix.parse().expect("a prefix"))
                .table_id(table)
                .output_interface(index)
                .build()
        };
        handle.route().add(route("10.244.7.0/24", 100)).execute().await.expect("a copy of ours in another table");
        assert_eq!(find().await, []);
        handle.route().add(route("192.0.2.0/24", 100)).execute().await.expect("a route");
        let words = ["192.0.2.0/24 table 100", "ip route delete 192.0.2.0/24 table 100 dev weft0"];
        only(&find().await, Severity::Warning, "RouteIntoTunnel", &words);
        handle.route().del(route("192.0.2.0/24", 100)).execute().await.expect("it goes");

        let mut several = route("198.51.100.0/24", 254);
        let ways = ["weft0", "eth0"];
        let mut hops = Vec::new();
        for way in ways {
            let mut hop = rtnetlink::packet_route::route::RouteNextHop::default();
            hop.interface_index = netns::index(&handle, way).await;
            hops.push(hop);
        }
        several.attributes.retain(|one| !matches!(one, rtnetlink::packet_route::route::RouteAttribute::Oif(_)));
        several.attributes.push(rtnetlink::packet_route::route::RouteAttribute::MultiPath(hops));
        handle.route().add(several).execute().await.expect("a route with two ways");
        only(&find().await, Severity::Warning, "RouteIntoTunnel", &["198.51.100.0/24", "dev weft0"]);
    });
}

#[test]
fn a_program_on_the_port_is_named() {
    inside("preflight::a_program_on_the_port_is_named", || async {
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
    inside("preflight::networks_that_overlap_a_pool_are_named", || async {
        host().await;
        let handle = routes();
        address(&handle, "eth0", "fd00:244:0:7::1/64").await;
        let words = ["fd00:244::/48", "fd00:244:0:7::/64", "eth0", "ip address delete fd00:244:0:7::1/64 dev eth0"];
        only(&find().await, Severity::Error, "PoolOverlapsSubnet", &words);
    });
}

#[test]
fn routes_that_overlap_a_pool_are_named() {
    inside("preflight::routes_that_overlap_a_pool_are_named", || async {
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
    inside("preflight::a_firewall_that_drops_forwarded_packets_is_named", || async {
        use foreign::{DELETE_TABLE, NEW_TABLE, base_chain};
        host().await;
        let foreign = Foreign::open();
        let table = |name| Edit::new(NEW_TABLE, &[text(1, name)]);
        // Drops of other packets are none of our business.
        let interface = ("meta", vec![foreign::number(2, 4), foreign::number(1, 1)]);
        let matches =
            ("cmp", vec![foreign::number(1, 1), foreign::number(2, 0), foreign::nest(3, &[foreign::number(1, 9)])]);
        foreign.edit(&[
            table("guard"),
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
        let words = ["FORWARD", "ip filter", "policy is drop", "iptables -I FORWARD -s 10.244.0.0/16 -j ACCEPT"];
        only(&findings, Severity::Warning, "FirewallDropsForwarded", &words);
        assert!(!findings[0].message.contains("fd00:244::"), "IPv6 does not pass there: {}", findings[0].message);
    });
}

/// `ip saddr` or `ip daddr` in 10.244.0.0/16, as nft(8) writes it for a table of IPv4.
fn in_pool(offset: u32) -> [(&'static str, Vec<DefaultNla>); 2] {
    let load = [number(1, 1), number(2, 1), number(3, offset), number(4, 2)];
    let is = [number(1, 1), number(2, 0), nest(3, &[DefaultNla::new(1, vec![10, 244])])];
    [("payload", load.into()), ("cmp", is.into())]
}

/// `udp dport 4789` in a table of one family.
fn to_tunnel() -> [(&'static str, Vec<DefaultNla>); 4] {
    let protocol = [number(1, 1), number(2, 16)];
    let is_udp = [number(1, 1), number(2, 0), nest(3, &[DefaultNla::new(1, vec![17])])];
    let port = [number(1, 1), number(2, 2), number(3, 2), number(4, 2)];
    let is = [number(1, 1), number(2, 0), nest(3, &[DefaultNla::new(1, 4789_u16.to_be_bytes().into())])];
    [("meta", protocol.into()), ("cmp", is_udp.into()), ("payload", port.into()), ("cmp", is.into())]
}

#[test]
fn a_firewall_that_accepts_what_must_pass_is_not_named_whatever_it_drops_else() {
    inside("preflight::a_firewall_that_accepts_what_must_pass_is_not_named_whatever_it_drops_else", || async {
        use foreign::{DELETE_RULE, NEW_CHAIN, NEW_TABLE, base_chain, jump};
        host().await;
        let foreign = Foreign::open();
        let ipv4 = |edit: Edit| edit.family(NetfilterProtoFamily::IPv4);
        let chain = |name| ipv4(Edit::new(NEW_CHAIN, &[text(1, "guard"), text(3, name)]));
        let add = |name, expressions: &[(&str, Vec<DefaultNla>)]| ipv4(rule("guard", name, expressions));
        foreign.edit(&[
            ipv4(Edit::new(NEW_TABLE, &[text(1, "guard")])),
            ipv4(base_chain("guard", "input", 1, 0, 0)),
            ipv4(base_chain("guard", "forward", 2, 0, 0)),
            chain("pods"),
            chain("hosts"),
            add("input", &[jump("hosts")]),
            add("forward", &[jump("pods")]),
        ]);
        let findings = find().await;
        assert_eq!(findings.len(), 2, "{findings:#?}");
        let words = ["chain input", "UDP port 4789", "nft insert rule ip guard input udp dport 4789 accept"];
        only(&findings[..1], Severity::Warning, "FirewallDropsTunnel", &words);
        only(&findings[1..], Severity::Warning, "FirewallDropsForwarded", &["chain forward", "packets of pods"]);

        // Rules of other chains count, and one direction is not enough: what is asked comes in by the other link.
        foreign.edit(&[add("hosts", &[&to_tunnel()[..], &[verdict(1)]].concat())]);
        only(&find().await, Severity::Warning, "FirewallDropsForwarded", &["chain forward"]);
        foreign.edit(&[add("pods", &[&in_pool(12)[..], &[verdict(1)]].concat())]);
        assert_eq!(find().await, []);

        // A rule before them that drops what comes in by the underlay; the direct peers' packets do.
        let by_underlay = [
            ("meta", vec![number(1, 1), number(2, 6)]),
            ("cmp", vec![number(1, 1), number(2, 0), nest(3, &[DefaultNla::new(1, b"eth0\0".to_vec())])]),
            verdict(0),
        ];
        foreign.edit(&[add("forward", &by_underlay).first()]);
        only(&find().await, Severity::Warning, "FirewallDropsForwarded", &["chain forward", "packets of pods by eth0"]);
        assert!(!find().await[0].message.contains("by weft0"), "the tunnel's pass");
        foreign.edit(&[ipv4(Edit::new(DELETE_RULE, &[text(1, "guard"), text(2, "forward")]))]);
        assert_eq!(find().await.len(), 1, "the policy is drop, and nothing jumps any more");
    });
}

#[test]
fn rules_that_lead_pods_packets_elsewhere_are_named() {
    inside("preflight::rules_that_lead_pods_packets_elsewhere_are_named", || async {
        use rtnetlink::packet_route::{rule::RuleAction, rule::RuleAttribute};
        host().await;
        sysctl("ipv4/ip_forward", "1");
        let handle = routes();
        handle.link().add(LinkVeth::new("wpod0123456789a", "pod").build()).execute().await.expect("a pod's link");
        let index = netns::index(&handle, "wpod0123456789a").await;
        let alias = rtnetlink::packet_route::link::LinkAttribute::IfAlias("weft".to_owned());
        let message = LinkUnspec::new_with_index(index).append_extra_attribute(alias).up().build();
        handle.link().set(message).execute().await.expect("its alias");
        up(&handle, "pod").await;
        let to = |to: [u8; 4], prefix| {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().destination_prefix(to.into(), prefix)
        };
        let pod = to([10, 244, 1, 5], 32).output_interface(index).protocol(RouteProtocol::Other(87)).build();
        handle.route().add(pod).execute().await.expect("the pod's route");
        route("10.244.2.0/24", 87).await;
        let pool = to([10, 244, 0, 0], 16).kind(RouteType::Unreachable).protocol(RouteProtocol::Other(87));
        handle.route().add(pool.priority(0x7fff_5745).build()).execute().await.expect("the pool's route");
        let other = to([0, 0, 0, 0], 0).gateway([10, 0, 0, 253].into()).table_id(52).build();
        handle.route().add(other).execute().await.expect("another table");
        let mut input = input(Family::V4);
        input.pods = vec![("wpod0123456789a".parse().expect("a name"), "10.244.1.5".parse().expect("an address"))];
        input.peers = vec!["10.244.2.0".parse().expect("an address")];
        assert_eq!(preflight(&input).await, []);

        // As a VPN does that takes everything but what it marks itself.
        let rule = |priority: u32| handle.rule().add().v4().table_id(52).priority(priority).action(RuleAction::ToTable);
        let mut marked = rule(5210);
        marked.message_mut().attributes.push(RuleAttribute::FwMark(0x80000));
        marked.execute().await.expect("a rule for marked packets");
        assert_eq!(preflight(&input).await, [], "it takes other packets");
        rule(5270).execute().await.expect("a rule for all");
        let words = [
            "10.244.2.0 leave by eth0 through table 52",
            "rule 5270: from all lookup 52",
            "ip rule add to 10.244.0.0/16 lookup main priority 5269",
        ];
        only(&preflight(&input).await, Severity::Error, "PolicyRouting", &words);
        let before = handle.rule().add().v4().table_id(254).priority(5269).action(RuleAction::ToTable);
        before.destination_prefix([10, 244, 0, 0].into(), 16).execute().await.expect("what is printed");
        assert_eq!(preflight(&input).await, []);

        // By the pod's link alone: without the link nobody would know.
        let by_link = handle.rule().add().v4().priority(10).action(RuleAction::Blackhole);
        by_link.input_interface("wpod0123456789a".to_owned()).execute().await.expect("a rule for pods");
        let words = ["go nowhere", "rule 10: from all iif wpod0123456789a blackhole"];
        only(&preflight(&input).await, Severity::Error, "PolicyRouting", &words);
    });
}

#[test]
fn strict_reverse_path_filtering_is_named_where_paths_switch() {
    inside("preflight::strict_reverse_path_filtering_is_named_where_paths_switch", || async {
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
    inside("preflight::missing_capabilities_are_named_once", || async {
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
