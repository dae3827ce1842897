//! Other hands on the same kernel: an administrator, or another program.

use std::{future::Future, net::IpAddr};

use ipnetwork::IpNetwork;
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder, packet_route::route::RouteProtocol};
use weft_agent::kernel::{Kernel, Linux, fake::FakeKernel};
use weft_core::{
    desired::Underlay,
    diff::Op,
    kernel::{ALIAS, Key, metric},
    types::PerFamily,
};

use super::objects::{device, link, pod_link};
use crate::netns::{address, default_route, index, routes, up};

/// Addresses of the host's `eth0`.
const ADDRESSES: [&str; 2] = ["10.0.0.1/24", "fd00:a::1/64"];

/// What a scenario lets others do. The host has a link `eth0` with addresses and a default route, and a pod's link.
pub(crate) trait Hands {
    /// Changes objects of ours as another program would.
    fn meddle(&mut self, op: &Op) -> impl Future<Output = ()>;
    /// Adds a static route to `to` by `eth0`.
    fn add_route(&mut self, to: IpNetwork) -> impl Future<Output = ()>;
    /// Replaces our route to `to` by a static one.
    fn take_route(&mut self, to: IpNetwork) -> impl Future<Output = ()>;
    /// Removes the pod's link.
    fn remove_pod_link(&mut self) -> impl Future<Output = ()>;
    /// Gives `eth0` one more address.
    fn add_underlay_address(&mut self) -> impl Future<Output = ()>;
}

/// Hands on the kernel of this network namespace.
pub(crate) struct RealHands {
    other: Linux,
    handle: rtnetlink::Handle,
}

impl RealHands {
    /// Furnishes the host.
    pub(crate) async fn new() -> Self {
        let handle = routes();
        up(&handle, "lo").await;
        for (name, peer) in [("eth0", "wire"), (pod_link().as_str(), "pod")] {
            handle.link().add(LinkVeth::new(name, peer).build()).execute().await.expect(name);
            up(&handle, name).await;
            up(&handle, peer).await;
        }
        let marked = LinkUnspec::new_with_index(index(&handle, pod_link().as_str()).await).alias(ALIAS).build();
        handle.link().set(marked).execute().await.expect("an alias");
        for text in ADDRESSES {
            address(&handle, "eth0", text).await;
        }
        default_route(&handle, "10.0.0.254").await;
        Self { other: Linux::open(device()).expect("sockets"), handle }
    }

    async fn set_route(&self, to: IpNetwork, replace: bool) {
        let (ip, prefix) = (to.ip(), to.prefix());
        let index = index(&self.handle, "eth0").await;
        let message = match ip {
            IpAddr::V4(ip) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(ip, prefix)
                .gateway([10, 0, 0, 253].into())
                .protocol(RouteProtocol::Static)
                .build(),
            IpAddr::V6(ip) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(ip, prefix)
                .output_interface(index)
                .priority(metric(&to))
                .protocol(RouteProtocol::Static)
                .build(),
        };
        let request = self.handle.route().add(message);
        let request = if replace { request.replace() } else { request };
        request.execute().await.expect("a route");
    }
}

impl Hands for RealHands {
    async fn meddle(&mut self, op: &Op) {
        let failures = self.other.apply(std::slice::from_ref(op)).await;
        assert!(failures.is_empty(), "{failures:#?}");
    }

    async fn add_route(&mut self, to: IpNetwork) {
        self.set_route(to, false).await;
    }

    async fn take_route(&mut self, to: IpNetwork) {
        self.set_route(to, true).await;
    }

    async fn remove_pod_link(&mut self) {
        let index = index(&self.handle, pod_link().as_str()).await;
        self.handle.link().del(index).execute().await.expect("the pod's link goes");
    }

    async fn add_underlay_address(&mut self) {
        address(&self.handle, "eth0", "10.0.0.2/24").await;
    }
}

/// Hands on a fake kernel.
pub(crate) struct FakeHands(FakeKernel);

impl FakeHands {
    /// Furnishes the host.
    pub(crate) fn new(kernel: FakeKernel) -> Self {
        kernel.set_underlay(Some(underlay()));
        kernel.add_link(pod_link());
        Self(kernel)
    }

    fn hold(&self, to: IpNetwork) {
        self.0.hold(Key::Route(to, metric(&to)));
    }
}

fn underlay() -> Underlay {
    let [v4, v6] = ADDRESSES.map(|text| Some(text.parse().expect(text)));
    Underlay {
        link: link("eth0"),
        mtu: 1500,
        addresses: PerFamily { v4, v6 },
        gateways: Default::default(),
        has_carrier: true,
        advertised_links: [link("eth0")].into(),
    }
}

impl Hands for FakeHands {
    async fn meddle(&mut self, op: &Op) {
        self.0.meddle(op).expect("the kernel takes it");
    }

    async fn add_route(&mut self, to: IpNetwork) {
        self.hold(to);
    }

    async fn take_route(&mut self, to: IpNetwork) {
        self.hold(to);
    }

    async fn remove_pod_link(&mut self) {
        self.0.remove_link(pod_link());
    }

    async fn add_underlay_address(&mut self) {
        self.0.set_underlay(Some(underlay()));
    }
}
