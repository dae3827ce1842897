//! An agent that is nothing but its pods: the real service over the real store, and a host's side over rtnetlink.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use ipnetwork::IpNetwork;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{address::AddressHeaderFlags, route::RouteAttribute},
};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot, watch},
};
pub(crate) use weft_agent::pods::NodeState;
use weft_agent::{
    api::Api,
    engine,
    pods::{AddressBook, DirDisk, HostSide, Keeper, PodStore, Round},
    veth::Released,
};
use weft_core::{
    desired::Pod,
    types::{LinkName, PerFamily},
};

use crate::lab::{pod_links, pod_routes};

/// The host's own addresses inside the overlay: the first of its pod CIDRs.
pub(crate) const VTEP_V4: &str = "10.244.1.0";
pub(crate) const VTEP_V6: &str = "fd87:0:0:1::";

/// How long a suspicion has to stand, in seconds of the clock that a test turns.
pub(crate) const GRACE: u64 = 60;

/// Asks the keeper for a round at so many seconds after the agent's start.
type Rounds = mpsc::UnboundedSender<(u64, std::sync::mpsc::Sender<Round>)>;

/// Switches that tests turn.
#[derive(Default)]
pub(crate) struct Switches {
    /// The host's side cannot be programmed.
    pub(crate) refuse: AtomicBool,
}

struct Host {
    handle: Handle,
    switches: Arc<Switches>,
}

impl Host {
    async fn index(&self, link: LinkName) -> Option<u32> {
        let found = self.handle.link().get().match_name(link.to_string()).execute().try_next().await;
        found.ok().flatten().map(|message| message.header.index)
    }
}

impl HostSide for Host {
    type Error = String;

    async fn ensure(&self, pod: Pod) -> Result<(), String> {
        if self.switches.refuse.load(Ordering::SeqCst) {
            return Err("refused by the test".to_owned());
        }
        let index = self.index(pod.link).await.ok_or_else(|| format!("{} does not exist", pod.link))?;
        for address in pod.addresses.iter() {
            let neighbour = self.handle.neighbours().add(index, *address).link_layer_address(&pod.mac.octets());
            neighbour.replace().execute().await.map_err(|error| error.to_string())?;
            let source: IpAddr = if address.is_ipv4() { VTEP_V4 } else { VTEP_V6 }.parse().expect("an address");
            let route = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(*address, if address.is_ipv4() { 32 } else { 128 })
                .and_then(|route| route.pref_source(source))
                .map_err(|error| error.to_string())?
                .output_interface(index);
            self.handle.route().add(route.build()).replace().execute().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    async fn remove(&self, link: LinkName) -> Result<(), String> {
        let Some(index) = self.index(link).await else { return Ok(()) };
        for builder in [RouteMessageBuilder::<IpAddr>::new().build(), ipv6()] {
            let mut routes = self.handle.route().get(builder).execute();
            while let Ok(Some(route)) = routes.try_next().await {
                if route.attributes.contains(&RouteAttribute::Oif(index)) {
                    let _ = self.handle.route().del(route).execute().await;
                }
            }
        }
        Ok(())
    }

    async fn check(&self, link: LinkName) -> Vec<String> {
        match self.index(link).await {
            Some(_) if pod_routes(link.as_str()) == 2 => Vec::new(),
            _ => vec![format!("no host route leads to {link}")],
        }
    }
}

fn ipv6() -> rtnetlink::packet_route::route::RouteMessage {
    RouteMessageBuilder::<std::net::Ipv6Addr>::new().build()
}

/// The engine of an agent that has none: nothing was dropped.
async fn answer(mut requests: mpsc::Receiver<engine::Request>) {
    while let Some(request) = requests.recv().await {
        let engine::Request::Dropped(answer) = request else { panic!("{request:?} is not for this test") };
        let _gone = answer.send(engine::Dropped::default());
    }
}

/// The real API over these pods.
fn api(pods: Arc<AddressBook<Host>>, status: watch::Receiver<engine::Status>) -> Api<Host> {
    let (engine, requests) = engine::Handle::new();
    tokio::spawn(answer(requests));
    Api {
        node: "a1".parse().expect("a name"),
        pods,
        engine,
        status,
        connection: watch::channel(Default::default()).1,
        findings: watch::channel(Vec::new()).1,
        more_warnings: Vec::new(),
        foreign_plugins: watch::channel(Vec::new()).1,
    }
}

/// A running agent.
pub(crate) struct Agent {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub(crate) switches: Arc<Switches>,
    pub(crate) node: watch::Sender<NodeState>,
    pub(crate) status: watch::Sender<engine::Status>,
    store: PodStore,
    rounds: Rounds,
}

/// The socket in a state directory.
pub(crate) fn socket(directory: &Path) -> PathBuf {
    directory.join("agent.sock")
}

/// No pod has left anything on the host or the disk.
#[track_caller]
pub(crate) fn nothing_left(agent: &Agent) {
    assert_eq!((pod_links(), agent.held(), pod_routes("wpod")), (Vec::new(), Vec::new(), 0));
}

/// A node with IPv4 and IPv6.
pub(crate) fn dual_stack() -> NodeState {
    let pod_cidrs = PerFamily {
        v4: Some(format!("{VTEP_V4}/24").parse().expect("a CIDR")),
        v6: Some(format!("{VTEP_V6}/64").parse().expect("a CIDR")),
    };
    NodeState { pod_cidrs, pod_mtu: Some(1450), ready: Ok(()) }
}

impl Agent {
    /// Starts; returns once the socket listens and noted releases were taken.
    pub(crate) fn start(directory: &Path, state: NodeState) -> Self {
        Self::start_on(directory, state, || {})
    }

    /// Without the right to enter namespaces, as in a container of its own.
    pub(crate) fn start_without_sys_admin(directory: &Path, state: NodeState) -> Self {
        Self::start_on(directory, state, || {
            let mut sets = capabilities(None).expect("the thread's capabilities");
            sets.effective.remove(CapabilitySet::SYS_ADMIN);
            sets.permitted.remove(CapabilitySet::SYS_ADMIN);
            set_capabilities(None, sets).expect("capabilities can be given up");
        })
    }

    fn start_on(directory: &Path, state: NodeState, prepare: impl FnOnce() + Send + 'static) -> Self {
        let opened = PodStore::open(disk(&directory.join("pods"))).expect("a store");
        assert_eq!(opened.damage, Vec::<String>::new());
        let (node, watched) = watch::channel(state);
        let (stop, stopped) = oneshot::channel();
        let (started, running) = std::sync::mpsc::channel();
        let (rounds, asked) = mpsc::unbounded_channel();
        let switches = Arc::new(Switches::default());
        let (status, told) = watch::channel(engine::Status::default());
        status.send_modify(|status| status.ready = true);
        let (store, shared, socket) = (opened.store.clone(), Arc::clone(&switches), socket(directory));
        let thread = std::thread::spawn(move || {
            prepare();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let parts = Parts { store: opened.store, node: watched, status: told, switches: shared, rounds: asked };
            runtime.block_on(serve(&socket, parts, stopped, &started));
        });
        running.recv().expect("the agent started");
        Self { stop: Some(stop), thread: Some(thread), switches, node, status, store, rounds }
    }

    /// Has the keeper go round as if so many seconds had passed since the start.
    pub(crate) fn round(&self, seconds: u64) -> Round {
        let (answer, wait) = std::sync::mpsc::channel();
        self.rounds.send((seconds, answer)).expect("the agent runs");
        wait.recv().expect("the round succeeds")
    }

    /// Addresses held, as text.
    pub(crate) fn held(&self) -> Vec<String> {
        let records = self.store.records();
        records.values().flat_map(|record| record.addresses.iter().map(ToString::to_string)).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The store's thread of an agent that was just dropped lets go of the disk a moment later.
fn disk(directory: &Path) -> DirDisk {
    loop {
        match DirDisk::open(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
            other => return other.expect("a disk"),
        }
    }
}

struct Parts {
    store: PodStore,
    node: watch::Receiver<NodeState>,
    status: watch::Receiver<engine::Status>,
    switches: Arc<Switches>,
    rounds: mpsc::UnboundedReceiver<(u64, std::sync::mpsc::Sender<Round>)>,
}

async fn serve(
    socket: &Path,
    Parts { store, node, status, switches, mut rounds }: Parts,
    stopped: oneshot::Receiver<()>,
    started: &std::sync::mpsc::Sender<()>,
) {
    let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
    tokio::spawn(connection);
    host_addresses(&handle).await;
    let host = Host { handle, switches };
    let pods = Arc::new(AddressBook::new(store, host, node, Released::beside(socket), Default::default()));
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).expect("a socket");
    assert_eq!(pods.take_noted_releases().await, Vec::<String>::new());
    let results = socket.with_file_name("results");
    let mut keeper = Keeper::new(Arc::clone(&pods), results, Duration::from_secs(GRACE));
    let began = Instant::now();
    tokio::spawn(async move {
        while let Some((seconds, answer)) = rounds.recv().await {
            let round = keeper.round(began + Duration::from_secs(seconds)).await.expect("the host can be looked at");
            answer.send(round).expect("the test waits");
        }
    });
    started.send(()).expect("the test waits");
    api(pods, status).serve(listener, async { drop(stopped.await) }).await.expect("serves");
    let _ = std::fs::remove_file(socket);
}

/// As the VXLAN device would have them.
async fn host_addresses(handle: &Handle) {
    let up = rtnetlink::LinkUnspec::new_with_index(1).up().build();
    handle.link().set(up).execute().await.expect("lo up");
    for text in [VTEP_V4, VTEP_V6] {
        let network = IpNetwork::from(text.parse::<IpAddr>().expect("an address"));
        let mut request = handle.address().add(1, network.ip(), network.prefix());
        // Else it is tentative for a moment, and no source of routes (`ipv6_chk_addr` in net/ipv6/addrconf.c).
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        // There already where the agent was restarted.
        let _ = request.execute().await;
    }
}
