//! Wires the agent's parts together and runs them.
//!
//! Owns start and stop. The engine runs on this thread beside everything else; it ends when SIGTERM or SIGINT comes, and the
//! kernel stays as it is.

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, sync::Arc};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{error, info, warn};
use weft_core::{desired::Pod, types::LinkName};

use crate::{
    api::{self, Api},
    clean_up::{self, CleanUp},
    config::Config,
    controller::{self, Client, ConnectionStatus, Held, Links, Order, Standing},
    disk_trouble::DiskTrouble,
    engine::{Engine, Handle, Inputs, Outputs, Setup, Status},
    host_check::HostCheck,
    installer::Installer,
    kept_underlay::KeptUnderlay,
    kernel::{KernelError, Netlink},
    last_good::LastGood,
    metrics, notify,
    pods::{AddressBook, DirDisk, HostSide, Keeper, NodeState, PodStore},
    probe::{Prober, Targets},
    standing,
    veth::Released,
};

/// Runs the agent until it is told to stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
    make_dir(&config.state_dir)?;
    let host_check = HostCheck::at_start(&config).await?;
    let listener = api::bind(&config.socket)?;
    let pods_dir = config.state_dir.join("pods");
    let disk = DirDisk::open(&pods_dir).with_context(|| format!("pods directory {}", pods_dir.display()))?;
    let opened = PodStore::open(disk)?;
    opened.damage.iter().for_each(|damage| warn!("{damage}"));
    let pods: Vec<Pod> = opened.store.records().values().map(|record| record.host_side()).collect();

    let (updates_in, updates) = mpsc::channel(16);
    let (engine, requests) = Handle::new();
    let (held_in, held) = watch::channel(Held::default());
    let (facts_in, facts) = watch::channel(None);
    let (standing_in, of_engine) = watch::channel(Standing::default());
    let (told, standing) = watch::channel(Standing::default());
    let (status_in, status) = watch::channel(Status::default());
    let (targets_in, targets) = watch::channel(Arc::new(Targets::default()));
    let (connection_in, connection) = watch::channel(ConnectionStatus::default());
    let (controller_in, controller) = watch::channel(None);
    let (order_in, order) = watch::channel(Order::default());
    let (cleaned_in, cleaned_up) = watch::channel(false);
    let (prober, probes) = Prober::new(targets.clone());
    let disk_trouble = DiskTrouble::default();

    let is_cleaned_up = cleaned_up.clone();
    let links =
        Links { updates: updates_in, held, facts, standing, order: order_in, cleaned_up, status: connection_in };
    let client = Client::new(
        config.node.clone(),
        config.controllers.clone(),
        config.credentials.clone(),
        &config.state_dir,
        links,
    )?
    .with_list(config.controllers_file.clone(), &config.state_dir)
    .telling(disk_trouble.clone());
    let out = Outputs { held: held_in, facts: facts_in, standing: standing_in, status: status_in, targets: targets_in };
    let last_good = LastGood::in_dir(&config.state_dir);
    let loop_ =
        Engine::new(setup(&config, last_good, disk_trouble.clone()), open_kernel(&config)?, out, pods, probes.clone());
    let inputs = Inputs { updates, requests, controller, findings: probes.clone() };

    let store = opened.store.clone();
    let service = Arc::new(AddressBook::new(
        opened.store,
        engine.clone(),
        node_state(status.clone()),
        Released::beside(&config.socket),
        disk_trouble.clone(),
    ));
    let installer = config.cni.clone().map(|paths| Installer::new(paths, config.socket.clone()));
    let (metrics_trouble, metrics_warnings) = watch::channel(Vec::new());
    let (certificate_told, certificate_warnings) = watch::channel(Vec::new());
    let deadlines = client.deadlines();
    let api = Api {
        node: config.node.clone(),
        pods: service.clone(),
        engine: engine.clone(),
        status: status.clone(),
        connection: connection.clone(),
        findings: host_check.findings(),
        more_warnings: installer
            .as_ref()
            .map(Installer::warnings)
            .into_iter()
            .chain([metrics_warnings, certificate_warnings, disk_trouble.sentences()])
            .collect(),
        foreign_plugins: installer.as_ref().map_or_else(|| watch::channel(Vec::new()).1, Installer::others),
    };
    let clean_up = CleanUp {
        config: config.clone(),
        order,
        cleaned_up: cleaned_in,
        engine: engine.clone(),
        installer: installer.clone(),
        store: store.clone(),
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(client.run());
    tokio::spawn(controller::tell_expiry(config.node.clone(), deadlines.clone(), certificate_told));
    tokio::spawn(host_check.run(status.clone(), targets, store.clone()));
    tokio::spawn(prober.run());
    tokio::spawn(tell_address(connection.clone(), controller_in));
    let said = standing::Sources { status: status.clone(), engine: of_engine, disk: disk_trouble.clone(), pods_dir };
    tokio::spawn(standing::run(service.clone(), said, told));
    tokio::spawn(Keeper::new(service, config.cni_results_dir.clone(), config.pod_grace).run());
    if let Some(installer) = installer {
        tokio::spawn(installer.run(status.clone()));
    }
    tokio::spawn(notify::when_ready(status.clone()));
    let sources = metrics::Sources { engine, status, connection, deadlines, findings: probes, pods: store };
    serve_metrics(&config, sources, metrics_trouble);
    let serving = tokio::spawn(api.serve(listener, until_stopped(stopped)));
    info!(node = %config.node, version = env!("CARGO_PKG_VERSION"), "started");

    let result = tokio::select! {
        result = loop_.run(inputs) => result,
        result = told_to_stop() => result,
        result = clean_up.run() => result,
    };
    info!("stopping; the kernel stays as it is");
    let _ = stop.send(true);
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), serving).await;
    let _ = fs::remove_file(&config.socket);
    if *is_cleaned_up.borrow() && result.is_ok() {
        clean_up::forget_identity(&config)?;
    }
    result
}

/// Checks the configuration and the host and prints what it finds.
pub async fn check(config: &Config) -> anyhow::Result<()> {
    HostCheck::all(config).await
}

/// Removes every kernel object of ours, where no agent runs.
pub(crate) async fn remove_kernel_objects(config: &Config) -> anyhow::Result<usize> {
    let (_, targets) = watch::channel(Arc::new(Targets::default()));
    let (_, probes) = Prober::new(targets);
    let out = Outputs {
        held: watch::channel(Held::default()).0,
        facts: watch::channel(None).0,
        standing: watch::channel(Standing::default()).0,
        status: watch::channel(Status::default()).0,
        targets: watch::channel(Arc::new(Targets::default())).0,
    };
    let last_good = LastGood::in_dir(&config.state_dir);
    Engine::new(setup(config, last_good, DiskTrouble::default()), open_kernel(config)?, out, Vec::new(), probes)
        .remove_everything()
        .await
}

fn setup(config: &Config, last_good: LastGood, disk_trouble: DiskTrouble) -> Setup {
    let (node, addresses) = (config.node.clone(), config.node_addresses.clone());
    Setup {
        node,
        device: config.device,
        interface: config.interface,
        mtu: config.mtu,
        unmasqueraded: config.unmasqueraded.clone(),
        addresses,
        last_good,
        disk_trouble,
        kept_underlay: KeptUnderlay::in_dir(&config.state_dir),
    }
}

fn open_kernel(config: &Config) -> Result<Netlink, KernelError> {
    Ok(Netlink::open(config.device)?.with_sysctls(&config.sysctl_dir))
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("state directory {}: cannot be made; choose another --state-dir", path.display()))
}

impl HostSide for Handle {
    async fn ensure(&self, pod: Pod) -> Result<(), String> {
        self.ensure_pod(pod).await
    }

    async fn remove(&self, link: LinkName) -> Result<(), String> {
        self.remove_pod(link).await
    }

    async fn check(&self, link: LinkName) -> Vec<String> {
        self.check_pod(link).await.unwrap_or_else(|error| vec![error])
    }
}

/// What pods need to know of the node, kept current.
fn node_state(mut status: watch::Receiver<Status>) -> watch::Receiver<NodeState> {
    let read = |status: &Status| NodeState {
        pod_cidrs: status.pod_cidrs,
        pod_mtu: status.pod_mtu.unwrap_or_default(),
        ready: match (&status.problem, status.pod_mtu) {
            (_, Some(_)) if status.ready => Ok(()),
            (Some(problem), _) => Err(problem.message.clone()),
            _ => Err("the agent is starting".to_owned()),
        },
    };
    let (sender, receiver) = watch::channel(read(&status.borrow()));
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            let state = read(&status.borrow_and_update());
            sender.send_if_modified(|told| {
                let changed = *told != state;
                *told = state;
                changed
            });
        }
    });
    receiver
}

/// The controller's address names the underlay.
async fn tell_address(
    mut connection: watch::Receiver<ConnectionStatus>,
    sender: watch::Sender<Option<std::net::IpAddr>>,
) {
    while connection.changed().await.is_ok() {
        let address = connection.borrow_and_update().address;
        sender.send_if_modified(|told| {
            let changed = *told != address;
            *told = address;
            changed
        });
    }
}

fn serve_metrics(config: &Config, sources: metrics::Sources, trouble: watch::Sender<Vec<String>>) {
    let Some(address) = config.metrics_listen else { return };
    tokio::spawn(async move {
        if let Err(error) = metrics::serve(address, sources, trouble).await {
            error!("{error:#}");
        }
    });
}

async fn until_stopped(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate()).context("SIGTERM cannot be awaited")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be awaited")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
