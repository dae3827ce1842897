//! Two nodes in two subnets with Weft, kube-proxy and pods, and the Services in front of these.
//!
//! Owns all of it, and the captures that tell how a question travelled.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use serde_json::json;
use weft_core::types::Family;

use super::{
    api::ApiServer,
    backend::{Backend, Seen, Talk, ask, ask_both},
    kube_proxy::{KubeProxy, Settings},
    objects::{Endpoint, Objects, PORT, SERVICE_NETWORKS, Service, TARGET},
    report::Report,
};
use crate::{
    cluster::{Cluster, Pod},
    lab::{
        CONTROL, Capture, LabSpec, Namespace, OUTSIDE,
        echo::Transport,
        packet::Packet,
        wait::{PATIENCE, until},
    },
};

/// The node that asks, and the node across the router.
pub(super) const HERE: &str = "a1";
pub(super) const THERE: &str = "b1";

/// The number of the first Service that is made to see whether kube-proxy has heard of it.
const FIRST_SIGN: u8 = 30;

/// The Services of the lab.
#[derive(Debug)]
pub(super) struct Services {
    /// In front of the pod on the other side of the router.
    pub(super) far: Service,
    /// In front of the pod on the asking node.
    pub(super) near: Service,
    /// In front of both.
    pub(super) both: Service,
    /// As `far`, for clients from outside at the pod's own node only.
    pub(super) local: Service,
    /// In front of a host.
    pub(super) host: Service,
}

/// Everything.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    pub(super) objects: Objects,
    pub(super) services: Services,
    pub(super) families: Vec<Family>,
    pub(super) is_ipvs: bool,
    pub(super) client: Pod,
    pub(super) near: Pod,
    pub(super) far: Pod,
    backends: Vec<Backend>,
    proxies: BTreeMap<String, KubeProxy>,
    pod_cidrs: BTreeMap<String, Vec<IpNetwork>>,
    router: Vec<Capture>,
    signs: AtomicU8,
    // Ends last.
    _api: ApiServer,
}

/// How a question was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Who answered.
    pub(super) backend: String,
    /// As whom it saw the client.
    pub(super) source: String,
    /// Whether it went through the tunnel.
    pub(super) tunnelled: bool,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.tunnelled { "through the tunnel" } else { "without the tunnel" };
        write!(f, "{} sees {}, {way}", self.backend, self.source)
    }
}

impl Scene {
    /// Brings all up but kube-proxy.
    pub(super) async fn set(families: &[Family], is_ipvs: bool, report: &Report) -> Result<Self> {
        let cluster = Cluster::start(LabSpec::default().hosts(1)).await?;
        report.line("two nodes with Weft are ready");
        let client = cluster.pod(HERE, "client").await?;
        let (near, far) = (cluster.pod(HERE, "near").await?, cluster.pod(THERE, "far").await?);
        let api = ApiServer::start(&cluster.lab().host(CONTROL), cluster.lab().spec().outer).await?;
        report.line("the API server is ready");
        let objects = Objects::new(&api.client(), families);
        let (mut proxies, mut pod_cidrs) = (BTreeMap::new(), BTreeMap::new());
        for peer in cluster.controller().weft().peers().await? {
            let host = cluster.lab().host(&peer.node);
            objects.node(&host, &peer.pod_cidrs).await?;
            proxies.insert(peer.node.clone(), KubeProxy::new(host, &api)?);
            let cidrs = peer.pod_cidrs.iter().map(|cidr| cidr.parse()).collect::<Result<_, _>>()?;
            pod_cidrs.insert(peer.node, cidrs);
        }
        let backends = backends(&cluster, families, &near, &far)?;
        let subnets = cluster.lab().spec().subnets.iter();
        let router = subnets.map(|subnet| Capture::start(cluster.lab().router(), &format!("net-{}", subnet.name)));
        let router = router.collect::<Result<_>>()?;
        let families = families.to_vec();
        let services = services();
        Ok(Self {
            cluster,
            objects,
            services,
            families,
            is_ipvs,
            client,
            near,
            far,
            backends,
            proxies,
            pod_cidrs,
            router,
            signs: AtomicU8::new(0),
            _api: api,
        })
    }

    /// Tells the API server of the Services.
    pub(super) async fn make_services(&self) -> Result<()> {
        let Services { far, near, both, local, host } = &self.services;
        let behind: [(&Service, &[&str]); 5] =
            [(far, &["far"]), (near, &["near"]), (both, &["near", "far"]), (local, &["far"]), (host, &["b1's host"])];
        for (service, names) in behind {
            self.objects.service(service, &self.endpoints(names)).await?;
        }
        Ok(())
    }

    /// The endpoints of backends by name.
    pub(super) fn endpoints(&self, names: &[&str]) -> Vec<Endpoint> {
        let wanted = self.backends.iter().filter(|backend| names.contains(&&*backend.name));
        wanted.map(|backend| backend.endpoint.clone()).collect()
    }

    /// A node's name, pod or host by an address.
    pub(super) fn who(&self, address: IpAddr) -> String {
        let pods = [&self.client, &self.near, &self.far];
        if let Some(pod) = pods.iter().find(|pod| pod.addresses().iter().any(|own| *own == address)) {
            return format!("pod {}", pod.name());
        }
        for host in self.cluster.lab().node_names().into_iter().chain([CONTROL.to_owned(), OUTSIDE.to_owned()]) {
            if self.cluster.lab().host(&host).addresses().iter().any(|own| own.address() == address) {
                return format!("{host}'s own address");
            }
            if self.pod_cidrs.get(&host).is_some_and(|cidrs| cidrs.iter().any(|cidr| cidr.contains(address))) {
                return format!("{host}'s overlay address");
            }
        }
        if is_service(address) { format!("the Service's address {address}") } else { address.to_string() }
    }

    /// Asks a socket over TCP and UDP, which has to show the same.
    pub(super) async fn ask(&self, from: &Namespace, to: SocketAddr) -> Result<Answer> {
        self.watched(async || ask_both(&self.backends, from, to).await).await
    }

    /// Has something asked, and says how that travelled.
    async fn watched(&self, question: impl AsyncFnOnce() -> Result<Seen>) -> Result<Answer> {
        self.router.iter().try_for_each(Capture::clear)?;
        let seen = question().await?;
        let mut tunnelled = 0;
        for capture in &self.router {
            tunnelled += capture.count(is_tunnelled_question)?;
            capture.expect_none("packets of pods or Services outside of the tunnel", |packet| {
                packet.touches(|address| is_service(address) || self.is_overlay(address))
            })?;
            // Their receivers drop them.
            capture.expect_none("packets in the tunnel under an address that is no pod's", |packet| {
                let inner = packet.tunnel.and_then(|tunnel| tunnel.inner).filter(|inner| inner.ports.is_some());
                inner.is_some_and(|inner| !self.is_overlay(inner.src))
            })?;
        }
        Ok(Answer { backend: seen.backend, source: self.who(seen.source), tunnelled: tunnelled > 0 })
    }

    /// Asks over one transport only.
    pub(super) async fn ask_over(&self, from: &Namespace, transport: Transport, to: SocketAddr) -> Result<Answer> {
        self.watched(async || ask(&self.backends, from, transport, to).await).await
    }

    /// Opens a connection to a socket; says which backend has it, too.
    pub(super) async fn talk(&self, from: &Namespace, to: SocketAddr) -> Result<(Talk, String)> {
        Talk::open(&self.backends, from, to).await
    }

    /// Asks until somebody answers, which proves nothing but that kube-proxy has heard of it.
    pub(super) async fn answers(&self, from: &Namespace, to: SocketAddr) -> Result<()> {
        until(&format!("{to} to answer"), PATIENCE, async || self.ask(from, to).await.map(drop)).await
    }

    /// Where a Service listens.
    pub(super) fn at(&self, service: &Service, family: Family) -> SocketAddr {
        (service.ip(family), PORT).into()
    }

    /// Where a Service listens on a node.
    pub(super) fn at_node(&self, service: &Service, node: &str, family: Family) -> Result<SocketAddr> {
        let port = service.node_port.context("a Service without a port on nodes")?;
        Ok((self.cluster.lab().host(node).address(family), port).into())
    }

    /// Starts every kube-proxy.
    pub(super) async fn start_proxies(&self, settings: &Settings) -> Result<()> {
        for proxy in self.proxies.values() {
            proxy.start(settings).await?;
        }
        Ok(())
    }

    /// Ends every kube-proxy; what they programmed stays.
    pub(super) async fn stop_proxies(&self) -> Result<()> {
        for proxy in self.proxies.values() {
            proxy.stop().await?;
        }
        Ok(())
    }

    /// Waits until every kube-proxy leads to every Service.
    pub(super) async fn served(&self) -> Result<()> {
        let Services { far, near, both, local, host } = &self.services;
        for node in [HERE, THERE] {
            let net = self.cluster.lab().host(node).net();
            for service in [far, near, both, local, host] {
                for family in &self.families {
                    self.proxies[node].alive().await?;
                    self.answers(&net, self.at(service, *family)).await?;
                }
            }
        }
        Ok(())
    }

    /// Waits until every kube-proxy has heard of all that the API server was told so far.
    pub(super) async fn synced(&self) -> Result<()> {
        // Another one each time: kube-proxy may still be about to forget the last.
        let number = FIRST_SIGN + self.signs.fetch_add(1, Ordering::Relaxed);
        let sign = Service::numbered("sign", number);
        self.objects.service(&sign, &self.endpoints(&["far"])).await?;
        for (node, proxy) in &self.proxies {
            let net = self.cluster.lab().host(node).net();
            for family in &self.families {
                proxy.alive().await?;
                self.answers(&net, self.at(&sign, *family)).await?;
            }
        }
        self.objects.remove(&sign).await
    }

    /// The pools of the families in use, as kube-proxy has them.
    pub(super) fn cluster_cidr(&self) -> String {
        let pools = self.cluster.lab().spec().pools.iter().map(|(pool, _)| pool.clone());
        let is_used =
            |pool: &String| pool.parse().is_ok_and(|pool: IpNetwork| self.families.contains(&Family::of(pool.ip())));
        pools.filter(is_used).collect::<Vec<_>>().join(",")
    }

    fn is_overlay(&self, address: IpAddr) -> bool {
        self.pod_cidrs.values().flatten().any(|cidr| cidr.contains(address))
    }
}

/// Every Service of the lab answers on a number of its own.
fn services() -> Services {
    let local = json!({ "externalTrafficPolicy": "Local" });
    Services {
        far: Service::new("far", 10).on_nodes(30_080),
        near: Service::new("near", 11),
        both: Service::new("both", 12),
        local: Service::new("local", 13).on_nodes(30_081).with(local),
        host: Service::new("host", 14),
    }
}

fn backends(cluster: &Cluster, families: &[Family], near: &Pod, far: &Pod) -> Result<Vec<Backend>> {
    let mut backends = Vec::new();
    for family in families {
        for pod in [near, far] {
            let node = pod.host().name();
            backends.push(Backend::start(pod.name(), node, pod.net(), pod.address(*family))?);
        }
        let host = cluster.lab().host(THERE);
        backends.push(Backend::start("b1's host", THERE, &host.net(), host.address(*family))?);
    }
    ensure!(!backends.is_empty(), "no family, no backend");
    Ok(backends)
}

/// A question to a backend, or its answer, inside the tunnel.
fn is_tunnelled_question(packet: &Packet) -> bool {
    let ports = packet.tunnel.and_then(|tunnel| tunnel.inner).and_then(|inner| inner.ports);
    ports.is_some_and(|(from, to)| from == TARGET || to == TARGET)
}

fn is_service(address: IpAddr) -> bool {
    SERVICE_NETWORKS
        .split(',')
        .filter_map(|network| network.parse::<IpNetwork>().ok())
        .any(|network| network.contains(address))
}
