//! A cluster with pods on every node, packets under way between them, and foreign objects everywhere.
//!
//! Owns the picture of each node as it should be, and the report.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use weft_core::types::Family;
use weft_e2e::{
    cluster::{Agent, Cluster, Pod},
    lab::{LabSpec, Namespace, Stream, SubnetSpec, UPLINK, default_network, wait},
};

use crate::drift::{
    foreign,
    hands::{Row, objects::links, settings},
    picture::{Eye, Picture},
};

/// Less than the shortest pause between two full looks (48 s): what only the regular look finds is not found in time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// Packets a second of each stream.
const RATE: u32 = 200;
/// Packets that have to arrive after each row. At this rate rows never come so fast that the agent takes them for a
/// fight and slows down.
const FLOWING: u64 = 130;
const PAUSE: Duration = Duration::from_millis(4);
/// From the documentation's range: on the loopback of a node it concerns nobody.
const NUDGE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 87));

/// One node.
pub(crate) struct Node {
    pub(crate) agent: Arc<Agent>,
    pub(crate) net: Arc<Namespace>,
    pub(crate) eye: Eye,
    settings: Vec<String>,
    /// As it should be.
    pub(crate) baseline: Picture,
    /// The host's ends of its pods.
    pub(crate) pods: Vec<String>,
}

/// Everything.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) pods: Vec<Pod>,
    streams: Vec<(String, Stream)>,
    report: Vec<(Duration, String)>,
}

impl Node {
    /// What is there now.
    pub(crate) fn look(&self) -> Result<Picture> {
        self.eye.look(&self.net, &self.settings)
    }

    /// Objects that the agent put back so far.
    pub(crate) async fn repaired(&self) -> Result<u64> {
        Ok(self.agent.weft().status().await?.repaired_objects)
    }

    /// Switches the link below off and on, and configures what the kernel dropped with it, as whoever runs the host's
    /// network does.
    pub(crate) async fn bounce(&self) -> Result<()> {
        self.net.wire().set_up(UPLINK, false).await?;
        self.net.wire().set_up(UPLINK, true).await?;
        for at in self.agent.host().addresses().iter() {
            let (address, family) = (at.address(), at.family());
            if family == Family::V6 {
                self.net.wire().add_address(UPLINK, address, at.prefix()).await?;
            }
            self.net.wire().add_route(default_network(family), Some(gateway(address))).await?;
        }
        Ok(())
    }

    /// Makes the agent look, by something that is none of its business.
    pub(crate) async fn nudge(&self) -> Result<()> {
        self.net.wire().add_address("lo", NUDGE, 32).await?;
        self.net.wire().delete_address("lo", NUDGE).await
    }
}

impl Scene {
    /// Foreign objects first, then agents, then pods.
    pub(crate) async fn set() -> Result<Self> {
        let subnet = |name: &str, hosts| SubnetSpec { name: name.to_owned(), hosts };
        let spec = LabSpec { subnets: vec![subnet("a", 2), subnet("b", 1)], ..LabSpec::default() };
        let cluster = Cluster::empty(spec).await?;
        let mut before = BTreeMap::new();
        for name in cluster.lab().node_names() {
            let net = cluster.lab().host(&name).net();
            let eye = Eye::open(&net)?;
            foreign::place(&eye).with_context(|| format!("foreign objects on {name}"))?;
            before.insert(name, eye.look(&net, &[])?);
        }
        for name in before.keys() {
            cluster.join(name).await?;
        }
        cluster.ready().await?;
        let mut pods = Vec::new();
        for name in before.keys() {
            pods.push(cluster.pod(name, &format!("{name}-p")).await?);
        }
        let streams = streams(&pods).await?;
        let mut scene = Self { cluster, nodes: BTreeMap::new(), pods, streams, report: Vec::new() };
        for (name, before) in before {
            let node = scene.node(&name)?;
            let lost = before.missing_in(&node.baseline);
            ensure!(lost.is_empty(), "{name}: joining changed what is not Weft's: {lost:#?}");
            ensure!(node.baseline.len() > before.len() + 30, "{name}: hardly anything of Weft's is in the picture");
            scene.nodes.insert(name, node);
        }
        scene.settle().await?;
        Ok(scene)
    }

    fn node(&self, name: &str) -> Result<Node> {
        let agent = self.cluster.agent(name);
        let net = agent.host().net();
        let eye = Eye::open(&net)?;
        let pods: Vec<String> = links(&eye.route)?.into_values().filter(|link| link.starts_with("wpod")).collect();
        let settings = settings::watched(&pods);
        let baseline = eye.look(&net, &settings)?;
        Ok(Node { agent, net, eye, settings, baseline, pods })
    }

    /// Waits until nothing changes any more while packets flow, and takes that for how it should be.
    async fn settle(&mut self) -> Result<()> {
        for _ in 0..20 {
            self.flows().await?;
            let mut steady = true;
            for node in self.nodes.values_mut() {
                let now = node.look()?;
                steady &= now == node.baseline;
                node.baseline = now;
            }
            if steady {
                return Ok(());
            }
        }
        anyhow::bail!("the nodes' kernels never came to rest")
    }

    /// Does a row on a node, and waits until it is undone.
    pub(crate) async fn row(&mut self, name: &str, row: &Row) -> Result<()> {
        let node = &self.nodes[name];
        let repaired = node.repaired().await?;
        if row.stopped {
            node.agent.signal(Signal::STOP).await?;
        }
        row.apply(&node.net, &node.eye).with_context(|| format!("on {name}"))?;
        if row.stopped {
            node.agent.signal(Signal::CONT).await?;
        }
        let start = Instant::now();
        if row.silent {
            node.nudge().await?;
        }
        let what = format!("{name}: {}", row.name);
        let took = self.back(&what, name, start).await?;
        // It was not the hand that missed.
        wait::until(&format!("{what}: to be counted as repaired"), PATIENCE, async || {
            ensure!(node.repaired().await? > repaired, "nothing was repaired: nothing was broken");
            Ok(())
        })
        .await?;
        self.flows().await.with_context(|| what.clone())?;
        self.note(took, if row.silent { format!("{what} (with the next look)") } else { what });
        Ok(())
    }

    /// Waits until a node is again as it should be; returns how long that took since `start`.
    pub(crate) async fn back(&self, what: &str, name: &str, start: Instant) -> Result<Duration> {
        let node = &self.nodes[name];
        self.like(what, name, &node.baseline, start).await
    }

    /// Waits until a node is like a picture.
    pub(crate) async fn like(&self, what: &str, name: &str, wanted: &Picture, start: Instant) -> Result<Duration> {
        let node = &self.nodes[name];
        loop {
            let found = node.look().and_then(|now| wanted.expect(&now));
            match found {
                Ok(()) => return Ok(start.elapsed()),
                Err(error) if start.elapsed() > wait::limit(PATIENCE) => {
                    let status = node.agent.weft().status().await?;
                    return Err(error.context(format!("{what}: {name} is not put right; its agent says {status:?}")));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Waits until packets of every stream have arrived from now on.
    pub(crate) async fn flows(&self) -> Result<()> {
        let goals: Vec<u64> = self.streams.iter().map(|(_, stream)| stream.received() + FLOWING).collect();
        wait::until("pods' packets to flow", PATIENCE, async || {
            for ((what, stream), goal) in self.streams.iter().zip(&goals) {
                ensure!(stream.received() >= *goal, "{what}: {} packets to go", goal - stream.received());
            }
            Ok(())
        })
        .await
    }

    /// Takes a time down and prints it.
    pub(crate) fn note(&mut self, took: Duration, what: String) {
        println!("drift: {what}: put right after {} ms", took.as_millis());
        self.report.push((took, what));
    }

    /// Everybody is well and everything is in its place; tells the slowest row.
    pub(crate) async fn end(self) -> Result<()> {
        self.cluster.ready().await?;
        for (name, node) in &self.nodes {
            self.back("at the end", name, Instant::now()).await?;
            let status = node.agent.weft().status().await?;
            ensure!(status.ready, "{name}: {} {}", status.reason, status.message);
        }
        self.flows().await?;
        let total: Duration = self.report.iter().map(|(took, _)| *took).sum();
        if let Some((slowest, what)) = self.report.iter().max() {
            let mean = total / u32::try_from(self.report.len())?;
            let (rows, slowest) = (self.report.len(), slowest.as_millis());
            println!("drift: {rows} rows, mean {} ms, slowest {slowest} ms: {what}", mean.as_millis());
        }
        for (_, stream) in self.streams {
            stream.stop().await?;
        }
        drop(self.pods);
        Ok(())
    }
}

/// The router's address in the subnet of `address`: the first.
pub(crate) fn gateway(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::from([a, b, c, 1])
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 1])
        }
    }
}

/// Through the tunnel and past it, both families.
async fn streams(pods: &[Pod]) -> Result<Vec<(String, Stream)>> {
    let [a1, a2, b1] = pods else { anyhow::bail!("three pods were to be there") };
    let mut streams = Vec::new();
    for (from, to, family) in [(a1, b1, Family::V4), (b1, a1, Family::V6), (a1, a2, Family::V4), (a2, a1, Family::V6)] {
        let address = to.address(family);
        from.reaches(address).await?;
        let what = format!("{} to {} over {family}", from.name(), to.name());
        streams.push((what, Stream::start(from.net(), to.net(), address, RATE)?));
    }
    Ok(streams)
}
