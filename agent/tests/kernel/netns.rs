//! Tests in network namespaces of their own.
//!
//! [`inside`] runs the test again as a child in fresh user and network namespaces, as root and as anybody else;
//! [`Namespace`] is one more host beside it. Nothing is left behind: all of it goes with the processes. A machine that
//! forbids namespaces fails the tests and is told why.

// The unit tests use a part of this too.
#![allow(dead_code)]

use std::{
    fs::{self, File},
    future::Future,
    net::{IpAddr, Ipv6Addr},
    os::fd::AsRawFd,
    process::Command,
    sync::mpsc,
    thread,
};

use futures::{StreamExt, TryStreamExt, future};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, MulticastGroup, RouteMessageBuilder,
    packet_route::{
        RouteNetlinkMessage,
        address::AddressHeaderFlags,
        route::{RouteAddress, RouteAttribute, RouteScope, RouteType},
    },
};

const MARK: &str = "WEFT_TEST_INSIDE";

/// Runs `body` in namespaces of its own; `test` is the full name of the calling test.
pub(crate) fn inside<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(MARK).is_some() {
        return block_on(body());
    }
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--"])
        .arg(std::env::current_exe().expect("a running test has a path"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(MARK, "1")
        .output()
        .expect("unshare(1) of util-linux is needed to run this test");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "{test} failed in its namespaces. If unshare was refused, allow user namespaces (sysctl \
         user.max_user_namespaces > 0, kernel.apparmor_restrict_unprivileged_userns=0, in a container its seccomp \
         profile) or run as root.\n{out}\n{err}"
    );
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

/// Another network namespace, held by a thread in it.
pub(crate) struct Namespace {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    file: File,
}

impl Namespace {
    /// A fresh namespace with its loopback up.
    pub(crate) fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (opened, file) = mpsc::channel();
        thread::spawn(move || {
            #[allow(unsafe_code)]
            // SAFETY: only the network namespace is unshared, of this thread alone; no descriptor table is touched.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("a namespace");
            opened.send(File::open("/proc/thread-self/ns/net").expect("its file")).expect("the caller waits");
            queue.into_iter().for_each(|job| job());
        });
        let namespace = Self { jobs, file: file.recv().expect("the thread has started") };
        namespace.run(|| block_on(async { up(&routes(), "lo").await }));
        namespace
    }

    /// Runs `job` on a thread in the namespace.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(done.send(job())))).expect("the thread runs");
        result.recv().expect("the job did not panic")
    }
}

/// A route netlink connection in this thread's namespace, on the current runtime.
pub(crate) fn routes() -> Handle {
    let (connection, handle, _) = rtnetlink::new_connection().expect("a netlink socket");
    tokio::spawn(connection);
    handle
}

/// The index of a link.
pub(crate) async fn index(handle: &Handle, name: &str) -> u32 {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    links.try_next().await.expect(name).expect(name).header.index
}

/// Sets a link up.
pub(crate) async fn up(handle: &Handle, name: &str) {
    let message = LinkUnspec::new_with_index(index(handle, name).await).up().build();
    handle.link().set(message).execute().await.expect(name);
}

/// Adds an address such as `10.0.0.1/24`; IPv6 without duplicate address detection. The kernel adds the local route of
/// an IPv6 address some time later: packets from the address are lost until then, so that is awaited.
pub(crate) async fn address(handle: &Handle, link: &str, address: &str) {
    let (ip, prefix) = address.split_once('/').expect("address/prefix");
    let ip: IpAddr = ip.parse().expect("an address");
    let index = index(handle, link).await;
    let groups = if ip.is_ipv6() { &[MulticastGroup::Ipv6Route][..] } else { &[] };
    let (connection, _, events) = rtnetlink::new_multicast_connection(groups).expect("a netlink socket");
    tokio::spawn(connection);
    let mut request = handle.address().add(index, ip, prefix.parse().expect("a prefix"));
    request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    request.execute().await.expect(address);
    if let IpAddr::V6(ip) = ip {
        let mut local = events.filter(|(message, _)| future::ready(is_local_route(message, ip)));
        local.next().await.expect("events until the route is there");
    }
}

fn is_local_route(message: &NetlinkMessage<RouteNetlinkMessage>, to: Ipv6Addr) -> bool {
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) = &message.payload else { return false };
    let wanted = RouteAttribute::Destination(RouteAddress::Inet6(to));
    route.header.kind == RouteType::Local && route.attributes.contains(&wanted)
}

/// Adds a default route.
pub(crate) async fn default_route(handle: &Handle, gateway: &str) {
    let request = match gateway.parse().expect("an address") {
        IpAddr::V4(gateway) => {
            handle.route().add(RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(gateway).build())
        }
        IpAddr::V6(gateway) => {
            handle.route().add(RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(gateway).build())
        }
    };
    request.execute().await.expect(gateway);
}

/// Takes the IPv4 default route away.
pub(crate) async fn no_default_route(handle: &Handle) {
    let mut request = handle.route().del(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build());
    request.message_mut().header.scope = RouteScope::NoWhere;
    request.execute().await.expect("a default route");
}

/// Joins this namespace to `other` by a veth pair: `link` here, `eth0` there, both up, with these addresses.
pub(crate) async fn join(other: &Namespace, link: &'static str, here: &[&str], there: &'static [&'static str]) {
    let handle = routes();
    handle.link().add(LinkVeth::new(link, "joint").build()).execute().await.expect("a veth pair");
    let peer = index(&handle, "joint").await;
    let message = LinkUnspec::new_with_index(peer).setns_by_fd(other.file.as_raw_fd()).name("eth0".to_owned()).build();
    handle.link().set(message).execute().await.expect("the peer moves");
    up(&handle, link).await;
    for text in here {
        address(&handle, link, text).await;
    }
    other.run(move || {
        block_on(async {
            let handle = routes();
            up(&handle, "eth0").await;
            for text in there {
                address(&handle, "eth0", text).await;
            }
        });
    });
}

/// Sets a sysctl below /proc/sys/net.
pub(crate) fn sysctl(path: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{path}"), value).expect(path);
}
