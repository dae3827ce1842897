//! What only the real kernel can show: other links in the way of the device, and what others do to it.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage};
use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan,
    packet_route::{
        RouteNetlinkMessage,
        link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage},
    },
};
use weft_agent::kernel::{Event, Kernel, KernelError, Linux, Scope, UnderlayQuery};
use weft_core::{
    diff::{Op, diff},
    kernel::{Key, Objects, Observed, Seen, Value, seen},
    types::{Family, Mac},
};

use super::objects::{all, device, ip, link, node};
use crate::netns::{address, index, no_default_route, routes, up};

async fn read(kernel: &mut Linux, wanted: &Objects) -> Observed {
    kernel.read(Scope::All { wanted }).await.expect("a whole reading")
}

/// One pass, of a loop that held everything before; returns how many operations it took.
async fn pass(kernel: &mut Linux, wanted: &Objects, held: bool) -> usize {
    let observed = read(kernel, wanted).await;
    let plan = diff(&observed, wanted, &|_| held, device());
    let failures = kernel.apply(&plan.ops).await;
    assert!(failures.is_empty(), "{failures:#?}");
    plan.ops.len()
}

async fn programmed(kernel: &mut Linux) -> Objects {
    let wanted = all(3);
    pass(kernel, &wanted, false).await;
    assert_eq!(read(kernel, &wanted).await.ours, seen(wanted.clone()));
    wanted
}

async fn set(message: LinkMessage) {
    routes().link().set(message).execute().await.expect("a link changes");
}

async fn device_index() -> u32 {
    index(&routes(), device().as_str()).await
}

/// The mark comes back, and the device stays the one it was.
pub(crate) async fn a_lost_mark_is_put_back(mut kernel: Linux) {
    let wanted = programmed(&mut kernel).await;
    let before = device_index().await;
    set(LinkUnspec::new_with_index(before).alias("").build()).await;
    let observed = read(&mut kernel, &wanted).await;
    assert!(observed.foreign.contains(&Key::Device) && !observed.ours.contains_key(&Key::Device));
    pass(&mut kernel, &wanted, true).await;
    assert_eq!(read(&mut kernel, &wanted).await.ours, seen(wanted.clone()));
    assert_eq!(device_index().await, before, "the device was made anew");
}

/// Learning, address generation: the device is made anew and all on it comes back in the same pass.
pub(crate) async fn an_unsound_device_is_made_anew(mut kernel: Linux) {
    let wanted = programmed(&mut kernel).await;
    let eui64 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::Eui64)]);
    let changes = [
        RouteNetlinkMessage::SetLink(
            LinkUnspec::new_with_name(device().as_str())
                .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![eui64]))
                .build(),
        ),
        RouteNetlinkMessage::NewLink(LinkMessageBuilder::<LinkVxlan>::new(device().as_str()).learning(true).build()),
    ];
    for change in changes {
        let mut message = NetlinkMessage::from(change);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let mut handle = routes();
        let mut answers = handle.request(message).expect("a request");
        while let Some(answer) = futures::StreamExt::next(&mut answers).await {
            assert!(
                !matches!(&answer.payload, netlink_packet_core::NetlinkPayload::Error(e) if e.code.is_some()),
                "{answer:?}"
            );
        }
        let observed = read(&mut kernel, &wanted).await;
        assert_eq!(observed.ours.get(&Key::Device), Some(&Seen::Altered { in_place: false }));
        pass(&mut kernel, &wanted, true).await;
        let missing: Vec<_> = read(&mut kernel, &wanted)
            .await
            .ours
            .into_iter()
            .filter(|(k, seen)| seen.value() != wanted.get(k))
            .collect();
        // IPv6 pod routes lost their source with the address; that is seen at the next look.
        assert!(missing.iter().all(|(key, _)| matches!(key, Key::Route(to, _) if to.prefix() == 128)), "{missing:?}");
        pass(&mut kernel, &wanted, true).await;
        assert_eq!(read(&mut kernel, &wanted).await.ours, seen(wanted.clone()));
    }
}

/// Somebody's link has the device's name: it is named, and not touched even by who tries.
pub(crate) async fn anothers_link_of_our_name_stays(mut kernel: Linux) {
    let handle = routes();
    handle.link().add(LinkVeth::new(device().as_str(), "peer").build()).execute().await.expect("a veth pair");
    let wanted = node();
    let observed = read(&mut kernel, &wanted).await;
    assert!(observed.foreign.contains(&Key::Device));
    assert!(diff(&observed, &wanted, &|_| false, device()).ops.iter().all(|op| *op.key() != Key::Device));
    let plan = diff(&observed, &wanted, &|_| true, device());
    let failures = kernel.apply(&plan.ops).await;
    let told = failures.iter().map(|failure| failure.error.to_string()).collect::<Vec<_>>();
    assert!(matches!(&told[..], [only] if only.contains("link weft0 is there and is not Weft's")), "{told:?}");
    let observed = read(&mut kernel, &wanted).await;
    assert!(observed.foreign.contains(&Key::Device), "it was taken over");
    assert!(!observed.ours.keys().any(|key| matches!(key, Key::Address(_) | Key::Fdb(_))));
}

/// Another VXLAN device holds VNI and port: one failure, which names that device, and what needs no device is there.
pub(crate) async fn a_taken_vni_is_told_once(mut kernel: Linux) {
    let handle = routes();
    let other = LinkVxlan::new("other", 87).port(4789).build();
    handle.link().add(other).execute().await.expect("another VXLAN device");
    up(&handle, "other").await;
    let wanted = all(3);
    let plan = diff(&read(&mut kernel, &wanted).await, &wanted, &|_| false, device());
    let failures = kernel.apply(&plan.ops).await;
    // Beside it only the pods' IPv6 routes, whose source is a VTEP address: IPv4 ones are known to go with it.
    let [failure, others @ ..] = &failures[..] else { panic!("a failure was expected") };
    assert!(others.iter().all(|other| matches!(other.key, Key::Route(to, _) if to.prefix() == 128)), "{others:#?}");
    assert_eq!(failure.key, Key::Device);
    let KernelError::Refused { message, .. } = &failure.error else { panic!("{failure:?}") };
    assert!(message.contains("link other has VNI 87 and port 4789 already"), "{message}");
    let observed = read(&mut kernel, &wanted).await;
    for (key, value) in &wanted {
        let needs_device = key.goes_with_device(Some(value), device()) || others.iter().any(|other| other.key == *key);
        assert_eq!(observed.ours.get(key).and_then(Seen::value), (!needs_device).then_some(value), "{key}");
    }
}

/// What the agent does itself is hardly reported, and never as other than it should be.
pub(crate) async fn our_own_changes_are_no_news(mut kernel: Linux) {
    let mut events = kernel.events().expect("events");
    let wanted = all(40);
    pass(&mut kernel, &wanted, false).await;
    assert_eq!(read(&mut kernel, &wanted).await.ours, seen(wanted.clone()));
    let mut objects = 0;
    while let Ok(Some(event)) = tokio::time::timeout(std::time::Duration::from_millis(200), events.recv()).await {
        if let Event::Object(key, seen) = event {
            assert_eq!(wanted.get(&key), seen.as_ref().and_then(Seen::value), "{key}");
            objects += 1;
        }
    }
    assert!(objects < 10, "{objects} of {} objects were reported", wanted.len());
}

/// Events that nobody takes become one that says so.
pub(crate) async fn who_cannot_follow_is_told(mut kernel: Linux) {
    programmed(&mut kernel).await;
    let mut events = kernel.events().expect("events");
    let ops: Vec<Op> = (0..8000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let key = Key::Fdb(Mac::local([0, 0x57, 5, 5, high, low]));
            Op::Put { key, value: Value::Fdb(ip("10.9.9.9")), old: None, replace: false }
        })
        .collect();
    let failures = Linux::open(device()).expect("sockets").apply(&ops).await;
    assert!(failures.is_empty(), "{failures:#?}");
    while events.recv().await.expect("events go on") != Event::Overflow {}
}

/// By the route to the controller; by the default route where the controller is this very host; by name.
pub(crate) async fn the_route_names_the_underlay(mut kernel: Linux) {
    let handle = routes();
    // Named as kube-proxy's, which is a dummy link, as not every kernel has; with the addresses of a Service: its own, and one of
    // this node's that it was given as an external address.
    handle.link().add(LinkBridge::new("kube-ipvs0").build()).execute().await.expect("a link of that name");
    address(&handle, "kube-ipvs0", "10.96.0.1/32").await;
    address(&handle, "kube-ipvs0", "10.7.0.2/32").await;
    handle.link().add(LinkVeth::new("eth1", "wire1").build()).execute().await.expect("a veth pair");
    for name in ["eth1", "wire1"] {
        up(&handle, name).await;
    }
    address(&handle, "eth1", "10.7.0.1/24").await;
    address(&handle, "eth1", "10.7.0.2/24").await;
    programmed(&mut kernel).await;
    let query = |controller: Option<&str>, interface: Option<&str>| UnderlayQuery {
        in_use: None,
        controller: controller.map(ip),
        interface: interface.map(link),
        addresses: Vec::new(),
        outer: Family::V4,
    };
    for (query, name, address) in [
        (query(Some("10.7.0.9"), None), "eth1", "10.7.0.1/24"),
        (query(Some("10.7.0.1"), None), "eth0", "10.0.0.1/24"),
        (query(Some("203.0.113.9"), None), "eth0", "10.0.0.1/24"),
        (query(Some("10.96.0.1"), None), "eth0", "10.0.0.1/24"),
        // The route there leads into the tunnel.
        (query(Some("10.244.2.9"), None), "eth0", "10.0.0.1/24"),
        (query(None, Some("eth1")), "eth1", "10.7.0.1/24"),
    ] {
        let found = kernel.underlay(&query).await.expect("an underlay");
        let v4 = found.addresses.v4.map(|address| address.to_string());
        assert_eq!((found.link, v4.as_deref()), (link(name), Some(address)), "{query:?}");
    }
    let outer = Family::V6;
    let error = kernel.underlay(&UnderlayQuery { outer, ..query(None, Some("eth1")) }).await.expect_err("no address");
    assert!(
        error.to_string().contains("link eth1 (named in the configuration) has no lasting IPv6 address"),
        "{error}"
    );
    let known = |addresses: &[&str], interface| UnderlayQuery {
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        ..query(Some("203.0.113.9"), interface)
    };
    for (query, address) in [
        (known(&["10.7.0.2"], None), "10.7.0.2/24"),
        // The first that is here counts, whatever route leads to the controller.
        (known(&["192.0.2.1", "10.7.0.1", "10.0.0.1"], None), "10.7.0.1/24"),
        (known(&["10.7.0.2", "10.0.0.1"], Some("eth1")), "10.7.0.2/24"),
    ] {
        let found = kernel.underlay(&query).await.expect("an underlay");
        let v4 = found.addresses.v4.map(|address| address.to_string());
        assert_eq!((found.link, v4.as_deref()), (link("eth1"), Some(address)), "{query:?}");
        assert_eq!(found.addresses.v6, None, "an address that nobody takes for this node's is not announced");
    }
    // The node was given others since: as if nobody had told.
    for (query, name) in [(known(&["192.0.2.1"], None), "eth0"), (known(&["10.0.0.1"], Some("eth1")), "eth1")] {
        assert_eq!(kernel.underlay(&query).await.expect("an underlay").link, link(name), "{query:?}");
    }
}

/// On the controller's own host, without a way to anywhere, the tunnel is at the address at which others find the controller.
pub(crate) async fn without_a_default_route_the_controllers_address_names_the_underlay(mut kernel: Linux) {
    let handle = routes();
    handle.link().add(LinkVeth::new("eth1", "wire1").build()).execute().await.expect("a veth pair");
    for name in ["eth1", "wire1"] {
        up(&handle, name).await;
    }
    address(&handle, "eth1", "10.7.0.1/24").await;
    no_default_route(&handle).await;
    let query = |controller: &str| UnderlayQuery {
        in_use: None,
        controller: Some(ip(controller)),
        interface: None,
        addresses: Vec::new(),
        outer: Family::V4,
    };
    let found = kernel.underlay(&query("10.7.0.1")).await.expect("an underlay");
    let v4 = found.addresses.v4.map(|address| address.to_string());
    assert_eq!((found.link, v4.as_deref()), (link("eth1"), Some("10.7.0.1/24")));
    let error = kernel.underlay(&query("127.0.0.1")).await.expect_err("the loopback carries nothing");
    assert!(error.to_string().contains("there is no route to the controller 127.0.0.1"), "{error}");
}
