//! A member that was taken over, beside four honest ones, for a minute: facts, addresses, reports, connections and packets, all of
//! them false and as fast as they go. No honest node, pod or route notices.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use weft_core::types::{Family, Mac};
use weft_e2e::{
    cluster::{Cluster, Pod},
    lab::{LabSpec, Namespace, Stream, frame, packet::VXLAN_PORT, wait},
    lab_test,
};
use weft_proto::{
    connect::{SERVER_NAME, for_http2, tls_builder},
    v1::{self, membership_service_client::MembershipServiceClient},
};

const HONEST: [&str; 4] = ["a1", "a2", "b1", "b2"];
const ROGUE: &str = "b3";
const VNI: u32 = 87;
/// How long it goes on.
const WHILE: Duration = Duration::from_secs(60);
/// Packets a second of each stream between honest pods.
const RATE: u32 = 200;

/// What the rogue has: a copy of its node's identity, and its place in the network.
#[derive(Clone)]
struct Rogue {
    net: Arc<Namespace>,
    controller: SocketAddr,
    tls: Arc<ClientConfig>,
    stop: Arc<AtomicBool>,
    /// Streams that the controller has ended.
    ended: Arc<AtomicU64>,
}

impl Rogue {
    /// Takes over a node whose agent has been stopped.
    fn of(cluster: &Cluster) -> Result<Self> {
        let identity = cluster.agent(ROGUE).state().join("identity");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(identity.join("ca.crt"))?)?;
        let certificate = vec![CertificateDer::from_pem_file(identity.join("node.crt"))?];
        let key = PrivateKeyDer::from_pem_file(identity.join("node.key"))?;
        let tls = for_http2(tls_builder().with_root_certificates(roots).with_client_auth_cert(certificate, key)?);
        let controller = cluster.controller().address().parse().context("the controller's address")?;
        let net = cluster.lab().host(ROGUE).net();
        Ok(Self { net, controller, tls, stop: Arc::default(), ended: Arc::default() })
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn channel(&self) -> Result<Channel> {
        let mut socket = Some(self.net.tcp_towards(self.controller.ip())?);
        let (controller, tls) = (self.controller, Arc::clone(&self.tls));
        let connector = tower::service_fn(move |_| {
            let (socket, tls) = (socket.take(), TlsConnector::from(Arc::clone(&tls)));
            async move {
                let socket = socket.ok_or_else(|| io::Error::other("one connection is enough"))?;
                let name = ServerName::try_from(SERVER_NAME).expect("a valid DNS name");
                let stream = tls.connect(name, socket.connect(controller).await?).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        Ok(Endpoint::from_static("http://weft-controller").connect_with_connector(connector).await?)
    }

    /// Streams, one after the other, on each of which it lies until it is thrown out.
    async fn lie(self, lies: Lies) {
        while !self.is_over() {
            if let Ok(channel) = self.channel().await {
                let _thrown_out = self.lie_on(channel, &lies).await;
                self.ended.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn lie_on(&self, channel: Channel, lies: &Lies) -> Result<()> {
        let mut client = MembershipServiceClient::new(channel);
        let (tell, told) = tokio::sync::mpsc::channel(8);
        let turn = self.ended.load(Ordering::Relaxed);
        let node = if turn % 7 == 3 { HONEST[0] } else { ROGUE };
        let facts = Some(lies.facts(turn));
        let hello = v1::Hello { node: node.to_owned(), facts, ..v1::Hello::default() };
        tell.send(v1::WatchRequest { message: Some(v1::watch_request::Message::Hello(hello)) }).await?;
        let requests = futures::stream::unfold(told, async |mut told| told.recv().await.map(|message| (message, told)));
        let mut answers = client.watch(requests).await?.into_inner();
        let mut count = turn;
        while !self.is_over() {
            count += 1;
            let report = lies.report(count);
            tell.send(v1::WatchRequest { message: Some(v1::watch_request::Message::Report(report)) }).await?;
            match tokio::time::timeout(Duration::from_millis(20), answers.message()).await {
                Ok(Ok(None)) => break,
                Ok(Err(refused)) => return Err(refused.into()),
                Ok(Ok(Some(_))) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// A stream that says once who this node is, and nothing more, for as long as the controller keeps it.
    async fn claim(&self, facts: v1::Facts) -> Result<()> {
        let mut client = MembershipServiceClient::new(self.channel().await?);
        let hello = v1::Hello { node: ROGUE.to_owned(), facts: Some(facts), ..v1::Hello::default() };
        let message = v1::WatchRequest { message: Some(v1::watch_request::Message::Hello(hello)) };
        let requests = futures::stream::once(async { message }).chain(futures::stream::pending());
        let mut answers = client.watch(requests).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    }

    /// Connections that ask nothing, as many as it gets.
    async fn crowd(self) {
        while !self.is_over() {
            let mut held = Vec::new();
            for _ in 0..40 {
                held.push(self.channel().await);
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

/// What it says of itself and of others.
struct Lies {
    addresses: Vec<String>,
}

impl Lies {
    /// Addresses of everybody who matters, those that nobody can have, and some that it could have.
    fn of(cluster: &Cluster) -> Self {
        let host = |name: &str| cluster.lab().host(name).address(Family::V4);
        let own = host(ROGUE).to_string();
        let (subnet, _) = own.rsplit_once('.').expect("IPv4");
        let mut addresses = vec![format!("{subnet}.0"), format!("{subnet}.255"), "10.244.1.7".to_owned()];
        addresses.extend(HONEST.map(|name| host(name).to_string()));
        addresses.extend((200..230).map(|last| format!("{subnet}.{last}")));
        addresses.push(own);
        Self { addresses }
    }

    fn facts(&self, count: u64) -> v1::Facts {
        let index = usize::try_from(count).expect("small") % self.addresses.len();
        let address: std::net::Ipv4Addr = self.addresses[index].parse().expect("an address");
        v1::Facts {
            underlay_addresses: vec![v1::Cidr { address: address.octets().into(), prefix: 24 }],
            underlay_mtu: 1280 + u32::try_from(count % 300).expect("small"),
            agent_version: "x".repeat(4096),
            ..v1::Facts::default()
        }
    }

    /// Everybody else is gone, it says, at length.
    fn report(&self, count: u64) -> v1::Report {
        let accused = HONEST.map(|node| v1::PeerProblem {
            node: node.to_owned(),
            reason: "ProbeLost".to_owned(),
            message: "no answer ".repeat(1000),
            since_unix_ms: i64::MAX,
        });
        let health = v1::Health { problems: accused.into(), problem_count: u32::MAX, ..v1::Health::default() };
        let applied = Some(v1::Revision { epoch: u64::MAX, sequence: u64::MAX });
        let facts = count.is_multiple_of(2).then(|| self.facts(count / 2));
        v1::Report { applied, facts, health: Some(health), cleaned_up: true }
    }
}

/// Tunnel packets to an honest pod that seem to come from another honest pod.
async fn forge(rogue: Rogue, victim: SocketAddr, frame: Vec<u8>) -> Result<()> {
    let socket = rogue.net.udp_towards(victim.ip())?;
    while !rogue.is_over() {
        socket.send_to(&frame, victim)?;
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// What must not change on honest nodes: their own objects and each other's routes.
async fn picture(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let rogues = cluster.controller().weft().peer(ROGUE).await?.pod_cidrs;
    let mut picture = BTreeMap::new();
    for node in HONEST {
        let host = cluster.lab().host(node);
        let mut seen = String::new();
        for command in [
            &["ip", "route", "show", "proto", "87"][..],
            &["ip", "-6", "route", "show", "proto", "87"],
            &["ip", "address", "show", "dev", "weft0"],
        ] {
            let lines = host.run(command).await?;
            let others = lines.lines().filter(|line| !rogues.iter().any(|cidr| line.contains(cidr.as_str())));
            // Which nexthop object leads to whom is told by its id, and ids of honest peers stay.
            others.for_each(|line| seen.push_str(&format!("{line}\n")));
        }
        picture.insert(node.to_owned(), seen);
    }
    Ok(picture)
}

/// Every honest node is well in everybody's eyes.
async fn all_is_well(cluster: &Cluster) -> Result<()> {
    for row in cluster.controller().weft().peers().await? {
        ensure!(row.node == ROGUE || row.is_ready(), "{row:?}");
    }
    for node in HONEST {
        let status = cluster.agent(node).weft().status().await?;
        ensure!(status.ready && status.controller_connected, "{node}: {status:?}");
    }
    Ok(())
}

fn streams(pods: &[Pod]) -> Result<Vec<Stream>> {
    let mut streams = Vec::new();
    for (from, to) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        for family in Family::ALL {
            streams.push(Stream::start(pods[from].net(), pods[to].net(), pods[to].address(family), RATE)?);
        }
    }
    Ok(streams)
}

lab_test!(a_member_that_was_taken_over_hurts_nobody_for_a_minute, async || {
    let cluster = Cluster::empty(LabSpec::default().hosts(3)).await?;
    for node in HONEST.iter().chain([&ROGUE]) {
        cluster.join(node).await?;
    }
    cluster.ready().await?;
    let mut pods = Vec::new();
    for node in HONEST {
        pods.push(cluster.pod(node, &format!("{node}-p")).await?);
    }
    let (victim, pretended) = (&pods[0], &pods[1]);
    let vtep: Mac = cluster.controller().weft().peer("a1").await?.mac.parse()?;
    let inner = frame::udp(
        (pretended.address(Family::V4), 40_000),
        (victim.address(Family::V4), 40_001),
        b"from a pod that did not send it",
    );
    let forged = frame::vxlan(VNI, &frame::ethernet(vtep.octets(), [0x02, 0, 0, 0, 0, 1], &inner));
    let tunnel = SocketAddr::new(cluster.lab().host("a1").address(Family::V4), VXLAN_PORT);

    let before = picture(&cluster).await?;
    let rogue = Rogue::of(&cluster)?;
    cluster.agent(ROGUE).stop().await?;
    let streams = streams(&pods)?;
    let deeds = [
        tokio::spawn(rogue.clone().lie(Lies::of(&cluster))),
        tokio::spawn(rogue.clone().lie(Lies::of(&cluster))),
        tokio::spawn(rogue.clone().crowd()),
    ];
    let forging = tokio::spawn(forge(rogue.clone(), tunnel, forged));
    let end = Instant::now() + WHILE;
    while Instant::now() < end {
        all_is_well(&cluster).await?;
        sleep_until((Instant::now() + Duration::from_secs(1)).min(end)).await;
    }
    ensure!(picture(&cluster).await? == before, "{:#?}\nand not\n{before:#?}", picture(&cluster).await?);
    for stream in streams {
        stream.stop().await?.expect_no_loss(u64::from(RATE) * 50)?;
    }
    // It is named, and what was refused is counted.
    let row = cluster.controller().weft().peer(ROGUE).await?;
    println!("{ROGUE} is {} {}: {}", row.state, row.reason, row.message);
    ensure!(!row.is_ready() && !row.message.is_empty(), "{row:?}");
    let status = cluster.agent("a1").weft().status().await?;
    ensure!(status.dropped_forged_tunnel_packets > 1000, "{status:?}");
    ensure!(status.repaired_objects == 0, "{status:?}");
    let ended = rogue.ended.load(Ordering::Relaxed);
    println!("{ended} of its streams were ended, {} of its packets dropped", status.dropped_forged_tunnel_packets);
    ensure!(ended > 10, "{ended} streams were ended");
    rogue.stop.store(true, Ordering::Relaxed);
    for deed in deeds {
        deed.await?;
    }
    forging.await??;

    // Once it is itself again, it is a member as before.
    cluster.agent(ROGUE).start().await?;
    wait::until("the rogue to be itself again", wait::PATIENCE, async || {
        let row = cluster.controller().weft().peer(ROGUE).await?;
        ensure!(row.is_ready(), "{row:?}");
        Ok(())
    })
    .await?;
    cluster.ready().await
});

// Whoever is first has what nobody proves; the owner comes later, and proves it by coming from there.
lab_test!(an_address_that_somebody_squats_is_its_owners_once_it_comes, async || {
    let cluster = Cluster::empty(LabSpec::default().hosts(3)).await?;
    for node in ["a1", ROGUE] {
        cluster.join(node).await?;
    }
    cluster.ready().await?;
    let rogue = Rogue::of(&cluster)?;
    cluster.agent(ROGUE).stop().await?;
    let owned = cluster.lab().host("b2").address(Family::V4);
    let (squatter, facts) = (rogue.clone(), facts_with(owned)?);
    let squatting = tokio::spawn(async move { squatter.claim(facts).await });
    wait::until("the rogue to have what it claims", wait::PATIENCE, async || {
        let row = cluster.controller().weft().peer(ROGUE).await?;
        ensure!(row.underlay_addresses.iter().any(|address| address.starts_with(&owned.to_string())), "{row:?}");
        Ok(())
    })
    .await?;

    cluster.join("b2").await?;
    wait::until("the owner to be ready, and the squatter to be named", wait::PATIENCE, async || {
        let owner = cluster.controller().weft().peer("b2").await?;
        let claimant = format!("node {ROGUE} reports the underlay address {owned} of this node too");
        ensure!(owner.is_ready() && owner.message.contains(&claimant), "{owner:?}");
        let row = cluster.controller().weft().peer(ROGUE).await?;
        ensure!(row.underlay_addresses.is_empty() && row.message.contains("b2"), "{row:?}");
        Ok(())
    })
    .await?;
    let refused = squatting.await?.expect_err("it is thrown out");
    ensure!(
        refused.to_string().contains(&format!("{owned} of node {ROGUE} is reported by connected node b2")),
        "{refused}"
    );
    let (here, there) = (cluster.pod("a1", "here").await?, cluster.pod("b2", "there").await?);
    here.reaches(there.address(Family::V4)).await?;
    Ok(())
});

// Everybody would send to them what is for its pods.
lab_test!(a_routers_and_the_controllers_addresses_are_no_members, async || {
    let cluster = Cluster::empty(LabSpec::default().hosts(3)).await?;
    for node in ["a1", "b1", ROGUE] {
        cluster.join(node).await?;
    }
    cluster.ready().await?;
    let rogue = Rogue::of(&cluster)?;
    let before = cluster.controller().weft().peer(ROGUE).await?;
    cluster.agent(ROGUE).stop().await?;
    let router = router_of(cluster.lab().host(ROGUE).address(Family::V4))?;
    for (claimed, why) in [
        // Whichever node of that subnet said it first.
        (router, "is a router's, as node b"),
        (rogue.controller.ip(), "is the controller's own"),
        ("10.99.0.7".parse()?, "no member has proven an address of the same subnet"),
    ] {
        let refused = rogue.claim(facts_with(claimed)?).await.expect_err("it is refused").to_string();
        ensure!(
            refused.contains(&format!("underlay address {claimed} of node {ROGUE}")) && refused.contains(why),
            "{refused}"
        );
        let row = cluster.controller().weft().peer(ROGUE).await?;
        ensure!(row.underlay_addresses == before.underlay_addresses, "{row:?}");
        ensure!(row.message.contains("it is turned away") && row.message.contains(why), "{row:?}");
    }
    Ok(())
});

/// What a member says that has just this address.
fn facts_with(address: IpAddr) -> Result<v1::Facts> {
    let IpAddr::V4(octets) = address else { bail!("{address} is no IPv4 address") };
    let underlay_addresses = vec![v1::Cidr { address: octets.octets().into(), prefix: 24 }];
    Ok(v1::Facts { underlay_addresses, underlay_mtu: 1500, ..v1::Facts::default() })
}

/// The lab's router has the first address of each subnet.
fn router_of(host: IpAddr) -> Result<IpAddr> {
    let IpAddr::V4(host) = host else { bail!("{host} is no IPv4 address") };
    let [a, b, c, _] = host.octets();
    Ok([a, b, c, 1].into())
}
