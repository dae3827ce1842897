//! Weft's agents beside kube-proxy: they are not disturbed, and do not disturb.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::super::{
    kube_proxy::Settings,
    objects::{Endpoint, STREAM_PORT, STREAM_TARGET, Service},
    report::Report,
    scene::{HERE, Scene, THERE},
};
use crate::{
    cluster::{Agent, AgentStatus},
    lab::{CONTROL, Stream, UPLINK, wait},
};

/// Packets a second.
const RATE: u32 = 100;
/// Services that come and go at once.
const CROWD: u8 = 20;

/// How the agents stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Before {
    nodes: BTreeMap<String, Standing>,
}

/// What must not change for an agent whatever kube-proxy does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    /// Name, underlay addresses, MAC and pod CIDRs of each peer.
    peers: Vec<(String, Vec<String>, String, Vec<String>)>,
    underlay: Value,
    warnings: Value,
    repaired: u64,
    dropped: [u64; 4],
}

impl Before {
    /// Reads it; fails where a node is not ready.
    pub(in super::super) async fn read(scene: &Scene) -> Result<Self> {
        scene.cluster.ready().await?;
        let mut nodes = BTreeMap::new();
        for agent in scene.cluster.agents() {
            nodes.insert(agent.host().name().to_owned(), standing(&agent).await?);
        }
        Ok(Self { nodes })
    }
}

async fn standing(agent: &Agent) -> Result<Standing> {
    let weft = agent.weft();
    let all: Value = weft.json(&["status"]).await?;
    let status: AgentStatus = serde_json::from_value(all.clone())?;
    ensure!(status.ready, "{}: {}", status.reason, status.message);
    let mut peers = Vec::new();
    for peer in weft.peers().await? {
        ensure!(peer.is_ready() && peer.reason.is_empty(), "{} is {}: {}", peer.node, peer.state, peer.message);
        peers.push((peer.node, peer.underlay_addresses, peer.mac, peer.pod_cidrs));
    }
    Ok(Standing {
        peers,
        underlay: Value::Array(vec![all["underlayInterface"].clone(), all["underlayAddresses"].clone()]),
        warnings: all["warnings"].clone(),
        repaired: status.repaired_objects,
        dropped: [
            status.dropped_tunnel_packets_from_pods,
            status.dropped_tunnel_packets_from_strangers,
            status.dropped_forged_tunnel_packets,
            status.dropped_forged_packets_from_pods,
        ],
    })
}

/// Everything is as it was before kube-proxy came, also while many Services come and go.
pub(in super::super) async fn undisturbed(scene: &Scene, report: &mut Report, before: &Before) {
    report.case("both agents are as before kube-proxy", async || as_before(scene, before).await).await;
    report
        .case(&format!("{CROWD} more Services come and go"), async || {
            let crowd: Vec<_> = (100..100 + CROWD).map(|number| Service::numbered("crowd", number)).collect();
            for service in &crowd {
                scene.objects.service(service, &scene.endpoints(&["far"])).await?;
            }
            let last = crowd.last().context("nobody")?;
            for node in [HERE, THERE] {
                scene.answers(&scene.cluster.lab().host(node).net(), scene.at(last, scene.families[0])).await?;
            }
            let said = as_before(scene, before).await?;
            for service in &crowd {
                scene.objects.remove(service).await?;
            }
            Ok(said)
        })
        .await;
}

async fn as_before(scene: &Scene, before: &Before) -> Result<String> {
    let now = Before::read(scene).await?;
    for (node, standing) in &now.nodes {
        let then = before.nodes.get(node).with_context(|| format!("{node} is new"))?;
        ensure!(standing == then, "{node} is {standing:?}; before kube-proxy it was {then:?}");
    }
    Ok("Ready, all peers Ready, the same underlay, no warning more, nothing put back, nothing dropped".to_owned())
}

/// Both agents and kube-proxy are started anew while a pod talks to a Service across the router.
pub(in super::super) async fn restarted(scene: &Scene, report: &mut Report, settings: &Settings, before: &Before) {
    report
        .case("both agents are stopped and started under a stream and a connection", async || {
            during(scene, async || restart_agents(scene).await).await
        })
        .await;
    report
        .case("they are as before, and put nothing back", async || {
            let mut wanted = before.clone();
            wanted.nodes.values_mut().for_each(|standing| standing.repaired = 0);
            // The host is checked a moment after the start.
            wait::until("the agents to be as before", wait::PATIENCE, async || as_before(scene, &wanted).await).await
        })
        .await;
    report
        .case("kube-proxy of both nodes is killed and started under a stream and a connection", async || {
            during(scene, async || {
                scene.stop_proxies().await?;
                scene.start_proxies(settings).await?;
                scene.synced().await
            })
            .await
        })
        .await;
    report.case("an agent that remembers no underlay", async || forgetful(scene).await).await;
    report.case("an agent that reaches its controller by a Service", async || by_service(scene).await).await;
}

/// A stream of packets and a connection by ClusterIP, through the tunnel, while something happens.
async fn during(scene: &Scene, what: impl AsyncFnOnce() -> Result<()>) -> Result<String> {
    let family = scene.families[0];
    let service = &scene.services.far;
    let (mut talk, _) = scene.talk(scene.client.net(), scene.at(service, family)).await?;
    let listen = (scene.far.address(family), STREAM_TARGET).into();
    let destination = (service.ip(family), STREAM_PORT).into();
    let stream = Stream::through(scene.client.net(), scene.far.net(), listen, destination, RATE)?;
    stream.pass(RATE.into()).await;
    what().await?;
    talk.say("still there?").await.context("the connection")?;
    stream.pass(RATE.into()).await;
    let account = stream.stop().await?;
    account.expect_no_loss(u64::from(RATE) * 2)?;
    Ok(format!("{} packets, none lost; the connection goes on", account.sent))
}

async fn restart_agents(scene: &Scene) -> Result<()> {
    for agent in scene.cluster.agents() {
        agent.stop().await?;
        agent.start().await?;
    }
    scene.cluster.ready().await
}

/// It has to find its underlay among all addresses.
async fn forgetful(scene: &Scene) -> Result<String> {
    let agent = scene.cluster.agent(HERE);
    agent.stop().await?;
    fs::remove_file(agent.state().join("underlay")).context("the agent kept no underlay")?;
    agent.start().await?;
    scene.cluster.ready().await?;
    its_own_address(scene, &agent).await
}

async fn its_own_address(scene: &Scene, agent: &Agent) -> Result<String> {
    let status: Value = agent.weft().json(&["status"]).await?;
    ensure!(status["underlayInterface"] == UPLINK, "it has {}", status["underlayInterface"]);
    let peer = scene.cluster.controller().weft().peer(agent.host().name()).await?;
    let own: Vec<_> = agent.host().addresses().iter().map(ToString::to_string).collect();
    ensure!(peer.underlay_addresses == own, "it announces {:?}", peer.underlay_addresses);
    Ok(format!("it has {UPLINK} and announces {}", own.join(" and ")))
}

/// As in a cluster: the route to a Service is local, with the Service's own address as source.
async fn by_service(scene: &Scene) -> Result<String> {
    let (agent, controller) = (scene.cluster.agent(HERE), scene.cluster.controller());
    let family = scene.families[0];
    let service = Service::new("weft", 20).to(7887);
    let control = Endpoint { address: scene.cluster.lab().host(CONTROL).address(family), node: CONTROL.to_owned() };
    controller.stop().await?;
    controller.add_server_name(&service.ip(family).to_string())?;
    controller.start().await?;
    scene.objects.service(&service, &[control]).await?;
    agent.stop().await?;
    fs::remove_file(agent.state().join("underlay")).context("the agent kept no underlay")?;
    agent.set_controller(&scene.at(&service, family).to_string());
    agent.start().await?;
    let what = "the agent to be connected by the Service";
    wait::until(what, wait::PATIENCE, async || {
        let status: Value = agent.weft().json(&["status"]).await?;
        ensure!(status["controllerConnected"] == true, "{}", status["controllerMessage"]);
        ensure!(
            status["controller"].as_str().is_some_and(|at| at.starts_with(&service.ip(family).to_string())),
            "{status}"
        );
        Ok(())
    })
    .await?;
    scene.cluster.ready().await?;
    its_own_address(scene, &agent).await
}

/// A Service takes the other node's address, which a load balancer that names nodes' addresses does, too: kube-proxy makes it this
/// node's own, and whatever is sent to the other node stays here.
pub(in super::super) async fn misplaced(scene: &Scene, report: &mut Report) {
    report
        .case("a Service has the other node's address: the agent says so", async || {
            let (agent, address) =
                (scene.cluster.agent(HERE), scene.cluster.lab().host(THERE).address(scene.families[0]));
            let service = Service::new("wrong", 21).with(json!({ "externalIPs": [address.to_string()] }));
            scene.objects.service(&service, &scene.endpoints(&["far"])).await?;
            let told = format!("address {address} of node {THERE} is on this node's link kube-ipvs0, too");
            let named = async || -> Result<bool> {
                let status: Value = agent.weft().json(&["status"]).await?;
                Ok(status["warnings"].to_string().contains(&told))
            };
            wait::until("the agent to name it", wait::PATIENCE, async || {
                ensure!(named().await?, "it does not");
                Ok(())
            })
            .await?;
            scene.objects.remove(&service).await?;
            wait::until("all to be well again", wait::PATIENCE, async || {
                ensure!(!named().await?, "the agent still says so");
                scene.cluster.ready().await
            })
            .await?;
            Ok(format!("\"{told}\"; all is well once the Service is gone"))
        })
        .await;
}
