//! One agent's loop with everything around it replaced by the test's hands.

use std::{future::Future, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    task::LocalSet,
};
use weft_agent::{
    controller::{Held, Standing, Update},
    engine::{Engine, Handle, Inputs, Outputs, Setup, Status},
    kept_underlay::KeptUnderlay,
    kernel::fake::FakeKernel,
    last_good::LastGood,
    probe::{Prober, Targets},
};
use weft_core::{
    desired::{Pod, Underlay},
    encap::{Encapsulation, Endpoint},
    membership::{Change, Delta, Log, Member, More},
    settings::{Mode, Settings},
    types::{Family, LinkName, Mac, NodeName, PerFamily, Revision, Vni},
};

pub(crate) fn link(name: &str) -> LinkName {
    LinkName::new(name).expect("a valid name")
}

pub(crate) fn settings() -> Settings {
    Settings {
        pools: vec!["10.244.0.0/16".parse().expect("valid"), "fd44::/48".parse().expect("valid")],
        mode: Mode::CrossSubnet,
        encapsulation: Encapsulation::Vxlan { vni: Vni::new(87).expect("valid"), port: 4789, outer: Family::V4 },
        more: More::default(),
    }
}

/// Node `n`: in subnet 192.0.2.0/24 where `near`, else in 198.51.100.0/24.
pub(crate) fn member(n: u8, near: bool) -> Member {
    let subnet = if near { "192.0.2" } else { "198.51.100" };
    Member {
        name: NodeName::new(&format!("node-{n}")).expect("valid"),
        incarnation: 1,
        pod_cidrs: PerFamily {
            v4: Some(format!("10.244.{n}.0/24").parse().expect("valid")),
            v6: Some(format!("fd44:0:0:{n:x}::/64").parse().expect("valid")),
        },
        endpoint: Endpoint::Vxlan { mac: Mac::local([2, 0x57, 0, 0, 0, n]) },
        underlay: PerFamily { v4: Some(format!("{subnet}.{n}/24").parse().expect("valid")), v6: None },
        underlay_mtu: 1500,
        more: More::default(),
    }
}

pub(crate) fn underlay() -> Underlay {
    Underlay {
        link: link("eth0"),
        mtu: 1500,
        addresses: PerFamily { v4: Some("192.0.2.1/24".parse().expect("valid")), v6: None },
        gateways: Default::default(),
        has_carrier: true,
        advertised_links: [].into(),
    }
}

pub(crate) fn kernel() -> FakeKernel {
    let kernel = FakeKernel::new(link("weft0"));
    kernel.set_underlay(Some(underlay()));
    kernel
}

pub(crate) struct World {
    pub(crate) kernel: FakeKernel,
    pub(crate) log: Log,
    pub(crate) handle: Handle,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) held: watch::Receiver<Held>,
    updates: mpsc::Sender<Update>,
    told: Revision,
    pub(crate) standing: watch::Receiver<Standing>,
    _others: (watch::Receiver<Arc<Targets>>, watch::Sender<Option<std::net::IpAddr>>),
    _dir: Arc<tempdir::Dir>,
}

/// Runs `test` beside the loop of node-1. Time is virtual: waiting costs none, and events are awaited.
pub(crate) fn run<F: Future<Output = ()>>(kernel: FakeKernel, pods: Vec<Pod>, test: impl FnOnce(World) -> F) {
    run_on(Arc::new(tempdir::Dir::new()), kernel, pods, test);
}

/// The same on a disk that was there before.
pub(crate) fn run_on<F: Future<Output = ()>>(
    dir: Arc<tempdir::Dir>,
    kernel: FakeKernel,
    pods: Vec<Pod>,
    test: impl FnOnce(World) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    LocalSet::new().block_on(&runtime, async {
        let world = World::start(dir, kernel, pods);
        tokio::time::timeout(std::time::Duration::from_secs(600), test(world)).await.expect("it settles");
    });
}

impl World {
    fn start(dir: Arc<tempdir::Dir>, kernel: FakeKernel, pods: Vec<Pod>) -> Self {
        let (updates, updates_out) = mpsc::channel(16);
        let (handle, requests) = Handle::new();
        let (held_in, held) = watch::channel(Held::default());
        let (facts_in, _) = watch::channel(None);
        let (standing_in, standing) = watch::channel(Standing::default());
        let (status_in, status) = watch::channel(Status::default());
        let (targets_in, targets) = watch::channel(Arc::new(Targets::default()));
        let (controller_in, controller) = watch::channel(None);
        let (_, findings) = Prober::new(targets.clone());
        let setup = Setup {
            node: member(1, true).name,
            device: link("weft0"),
            mtu: None,
            unmasqueraded: None,
            interface: None,
            addresses: Vec::new(),
            last_good: LastGood::in_dir(&dir.0),
            disk_trouble: weft_agent::disk_trouble::DiskTrouble::default(),
            kept_underlay: KeptUnderlay::in_dir(&dir.0),
        };
        let out =
            Outputs { held: held_in, facts: facts_in, standing: standing_in, status: status_in, targets: targets_in };
        let engine = Engine::new(setup, kernel.clone(), out, pods, findings.clone());
        let inputs = Inputs { updates: updates_out, requests, controller, findings };
        tokio::task::spawn_local(engine.run(inputs));
        let mut log = Log::new(7, settings(), Vec::new());
        log.upsert(member(1, true));
        Self {
            kernel,
            log,
            handle,
            status,
            held,
            updates,
            told: Revision::default(),
            standing,
            _others: (targets, controller_in),
            _dir: dir,
        }
    }

    pub(crate) async fn tell(&self, update: Update) {
        self.updates.send(update).await.expect("the loop runs");
    }

    /// Sends the whole membership and waits until the kernel was read back to hold it.
    pub(crate) async fn snapshot(&mut self) {
        let snapshot = self.log.snapshot();
        let told = snapshot.digests().into();
        self.tell(Update::Snapshot(snapshot, told)).await;
        self.applied().await;
    }

    /// Sends what changed since the last time and waits until the kernel was read back to hold it.
    pub(crate) async fn delta(&mut self) {
        let delta = self.log.since(self.told).expect("the log reaches back");
        self.tell(Update::Delta(delta)).await;
        self.applied().await;
    }

    pub(crate) async fn applied(&mut self) {
        self.told = self.log.revision();
        let told = self.told;
        let done = |status: &Status| status.ready && status.applied == Some(told);
        self.status.wait_for(done).await.expect("the loop runs");
    }

    /// Waits until what a peer needs is said to be missing.
    pub(crate) async fn blamed(&mut self, what: &str) {
        let named = |standing: &Standing| standing.health.peers.iter().any(|problem| problem.message.contains(what));
        self.standing.wait_for(named).await.expect("the loop runs");
    }

    /// Waits until nothing is wrong with any peer.
    pub(crate) async fn blames_nobody(&mut self) {
        let none = |standing: &Standing| standing.health.problem_count == 0;
        self.standing.wait_for(none).await.expect("the loop runs");
    }

    /// A delta that starts where nobody is.
    pub(crate) fn gap(&self) -> Delta {
        let from = Revision::new(7, 900);
        let change = Change::Departed(member(9, true).name);
        Delta { from, to: Revision::new(7, 901), changes: vec![(901, change)] }
    }
}

pub(crate) mod tempdir {
    //! A directory that goes with its value.

    use std::sync::atomic::{AtomicU32, Ordering};

    static NEXT: AtomicU32 = AtomicU32::new(0);

    pub(crate) struct Dir(pub(crate) std::path::PathBuf);

    impl Dir {
        pub(crate) fn new() -> Self {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("weft-engine-{}-{number}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a writable temp dir");
            Self(path)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
