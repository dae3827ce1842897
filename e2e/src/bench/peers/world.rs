//! The agent's own loop over the real kernel of a lab host, fed by hand.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result};
use ipnetwork::IpNetwork;
use tokio::{
    sync::{mpsc, watch},
    task::LocalSet,
};
use weft_agent::{
    controller::{Held, Standing, Update},
    engine::{Engine, Handle, Inputs, Outputs, Setup, Status},
    kept_underlay::KeptUnderlay,
    kernel::Linux,
    last_good::LastGood,
    probe::{Prober, Targets},
};
use weft_core::{
    encap::{Encapsulation, Endpoint},
    membership::{Log, Member, More},
    settings::{Mode, Settings},
    types::{Family, LinkName, Mac, NodeName, PerFamily, PodCidr, Revision, UnderlayAddress, Vni},
};

use super::{OneChange, counted::Counted, median, round};
use crate::lab::{Lab, UPLINK};

/// The VXLAN device.
pub(super) fn device() -> LinkName {
    LinkName::new("weft0").expect("a valid name")
}

/// The cluster's settings.
pub(super) fn settings() -> Settings {
    Settings {
        pools: vec!["10.0.0.0/9".parse().expect("valid"), "fd44::/32".parse().expect("valid")],
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("valid"), port: 4789, outer: Family::V4 },
        more: More::default(),
    }
}

/// Peer `n` in a subnet that is not the host's, with pods of `families`.
pub(super) fn member(n: u32, families: &[Family]) -> Member {
    let octets = n.to_be_bytes();
    let cidr = |family| families.contains(&family).then(|| pod_cidr(n, family));
    let at = IpAddr::V4(Ipv4Addr::from(0xac10_0000 + n));
    Member {
        name: NodeName::new(&format!("node-{n:05}")).expect("valid"),
        incarnation: 1,
        pod_cidrs: PerFamily { v4: cidr(Family::V4), v6: cidr(Family::V6) },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0x57, octets[0], octets[1], octets[2], octets[3]]) },
        underlay: PerFamily { v4: Some(UnderlayAddress::new(at, 12).expect("valid")), v6: None },
        underlay_mtu: 1500,
        more: More::default(),
    }
}

fn pod_cidr(n: u32, family: Family) -> PodCidr {
    let network = match family {
        Family::V4 => IpNetwork::new(Ipv4Addr::from(0x0a00_0000 + (n << 8)).into(), 24),
        Family::V6 => IpNetwork::new(Ipv6Addr::from((0xfd44_u128 << 112) + (u128::from(n) << 64)).into(), 64),
    };
    PodCidr::new(network.expect("a valid prefix")).expect("a valid CIDR")
}

/// The agent's state of one measurement: hosts of labs that follow each other share their place in the sandbox, and no
/// measurement may start from what another one left on the disk.
pub(super) fn state_dir(lab: &Lab) -> Result<PathBuf> {
    let dir = lab.host("a1").directory().join("bench");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A running loop.
pub(super) struct World {
    log: Log,
    requests: Arc<AtomicUsize>,
    updates: mpsc::Sender<Update>,
    status: watch::Receiver<Status>,
    told: Revision,
    _keep: (Handle, watch::Receiver<Held>, watch::Receiver<Standing>, watch::Sender<Option<IpAddr>>),
}

impl World {
    /// Milliseconds from a membership in memory to the empty second diff, and then to the disk.
    pub(super) async fn cold(lab: &Lab, peers: u32) -> Result<f64> {
        let state = state_dir(lab)?;
        Self::beside(lab, &[Family::V4], peers, async move |mut world| {
            let snapshot = world.log.snapshot();
            let told = snapshot.digests().into();
            let to_keep = snapshot.clone();
            let began = Instant::now();
            world.tell(Update::Snapshot(snapshot, told)).await?;
            LastGood::in_dir(&state).save(&to_keep)?;
            Ok(began.elapsed().as_secs_f64() * 1e3)
        })
        .await
    }

    /// One peer joins, changes its underlay address, leaves, with `peers` present.
    pub(super) async fn changes(lab: &Lab, peers: u32, families: &[Family], rounds: usize) -> Result<Vec<OneChange>> {
        let count = u8::try_from(families.len()).expect("one or two");
        let all = families.to_vec();
        Self::beside(lab, families, peers, async move |mut world| {
            let snapshot = world.log.snapshot();
            let told = snapshot.digests().into();
            world.tell(Update::Snapshot(snapshot, told)).await?;
            let joining = member(peers + 9, &all);
            let mut moved = joining.clone();
            moved.underlay = member(peers + 10, &all).underlay;
            let (mut joins, mut moves, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds.max(3) {
                world.log.upsert(joining.clone());
                joins.push(world.delta().await?);
                world.log.upsert(moved.clone());
                moves.push(world.delta().await?);
                world.log.remove(&joining.name);
                leaves.push(world.delta().await?);
            }
            let one = |what, figures: Vec<(usize, f64)>| OneChange {
                what,
                families: count,
                rtnetlink_requests: figures.iter().map(|(requests, _)| *requests).max().unwrap_or_default(),
                ms: round(median(figures.into_iter().map(|(_, ms)| ms).collect())),
            };
            Ok(vec![
                one("a peer joins", joins),
                one("a peer changes its underlay address", moves),
                one("a peer leaves", leaves),
            ])
        })
        .await
    }

    /// Runs `measure` beside a loop on the host's own thread and runtime.
    async fn beside<T: Send + 'static>(
        lab: &Lab,
        families: &[Family],
        peers: u32,
        measure: impl AsyncFnOnce(Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let host = lab.host("a1");
        let mut me = member(1, families);
        me.underlay.v4 = Some(UnderlayAddress::new(host.address(Family::V4), 24)?);
        let state = state_dir(lab)?;
        let members: Vec<_> = std::iter::once(me).chain((2..peers + 2).map(|n| member(n, families))).collect();
        host.net().enter(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async {
                let mut log = Log::new(7, settings(), Vec::new());
                for member in members {
                    log.upsert(member);
                }
                measure(Self::start(log, &state).await?).await
            })
        })
    }

    async fn start(log: Log, state: &Path) -> Result<Self> {
        let (updates, updates_out) = mpsc::channel(16);
        let (handle, requests_out) = Handle::new();
        let (held_in, held) = watch::channel(Held::default());
        let (standing_in, standing) = watch::channel(Standing::default());
        let (status_in, status) = watch::channel(Status::default());
        let (facts_in, mut facts) = watch::channel(None);
        let (targets_in, targets) = watch::channel(Arc::new(Targets::default()));
        let (controller_in, controller) = watch::channel(None);
        let (_, findings) = Prober::new(targets);
        let setup = Setup {
            node: member(1, &[]).name,
            device: device(),
            mtu: None,
            unmasqueraded: None,
            interface: Some(LinkName::new(UPLINK)?),
            addresses: Vec::new(),
            last_good: LastGood::in_dir(state),
            disk_trouble: weft_agent::disk_trouble::DiskTrouble::default(),
            kept_underlay: KeptUnderlay::in_dir(state),
        };
        let out =
            Outputs { held: held_in, facts: facts_in, standing: standing_in, status: status_in, targets: targets_in };
        let requests = Arc::new(AtomicUsize::new(0));
        let kernel = Counted { kernel: Linux::open(device())?, requests: requests.clone() };
        let engine = Engine::new(setup, kernel, out, Vec::new(), findings.clone());
        tokio::task::spawn_local(engine.run(Inputs {
            updates: updates_out,
            requests: requests_out,
            controller,
            findings,
        }));
        facts.wait_for(Option::is_some).await.context("the loop has ended")?;
        let keep = (handle, held, standing, controller_in);
        Ok(Self { log, requests, updates, status, told: Revision::default(), _keep: keep })
    }

    async fn tell(&mut self, update: Update) -> Result<()> {
        self.updates.send(update).await.context("the loop has ended")?;
        let told = self.log.revision();
        self.told = told;
        self.status
            .wait_for(|status| status.ready && status.applied == Some(told))
            .await
            .context("the loop has ended")?;
        Ok(())
    }

    /// Requests and milliseconds of what changed since the last time.
    async fn delta(&mut self) -> Result<(usize, f64)> {
        let delta = self.log.since(self.told).context("the log reaches back")?;
        let before = self.requests.load(Ordering::Relaxed);
        let began = Instant::now();
        self.tell(Update::Delta(delta)).await?;
        let ms = began.elapsed().as_secs_f64() * 1e3;
        Ok((self.requests.load(Ordering::Relaxed) - before, ms))
    }
}
