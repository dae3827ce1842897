//! Wires the agent's parts together and runs them.
//!
//! Owns start and stop. The engine runs on this thread beside everything else; it ends when SIGTERM or SIGINT comes, and the
//! kernel stays as it is.

mod wires;

use std::{fs, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};
use tracing::{error, info, warn};

use self::wires::{Wires, node_state, tell_address, wires};
use crate::{
    api::{self, Api},
    clean_up::{self, CleanUp},
    config::Config,
    controller::{self, Client, ConnectionStatus, Links, Order, Update},
    disk_trouble::DiskTrouble,
    engine::{Engine, Outputs, Setup},
    host_check::HostCheck,
    installer::Installer,
    kept_underlay::KeptUnderlay,
    kernel::Linux,
    last_good::LastGood,
    metrics, notify,
    pods::{AddressBook, DirDisk, Keeper, PodStore},
    standing,
    veth::Released,
};

/// Calls that are under way are waited for so long at the end.
const STOPPING: Duration = Duration::from_secs(2);

/// Runs the agent until it is told to stop.
///
/// # Errors
/// If the host or the configuration does not let it start, or a part that it cannot be without has ended.
pub async fn run(config: Config) -> anyhow::Result<()> {
    make_dir(&config.state_dir)?;
    let host_check = HostCheck::at_start(&config).await?;
    let listener = api::bind(&config.socket)?;
    let pods_dir = config.state_dir.join("pods");
    let disk = DirDisk::open(&pods_dir).with_context(|| format!("pods directory {}", pods_dir.display()))?;
    let opened = PodStore::open(disk)?;
    opened.damage.iter().for_each(|damage| warn!("{damage}"));

    let (wires, ends) = wires();
    let engine = engine(&config, &wires, ends.outputs, &opened.store)?;
    let links = links(&wires, ends.updates, ends.order, ends.connection);
    let client = client(&config, links, &wires.disk_trouble)?;
    let deadlines = client.deadlines();
    let pods = Arc::new(AddressBook::new(
        opened.store.clone(),
        wires.engine.clone(),
        node_state(wires.status.clone()),
        Released::beside(&config.socket),
        wires.disk_trouble.clone(),
    ));
    let installer = config.cni.clone().map(|paths| Installer::new(paths, config.socket.clone()));
    let (metrics_trouble, metrics_warnings) = watch::channel(Vec::new());
    let (certificate_told, certificate_warnings) = watch::channel(Vec::new());
    let api = Api {
        node: config.node.clone(),
        pods: pods.clone(),
        engine: wires.engine.clone(),
        status: wires.status.clone(),
        connection: wires.connection.clone(),
        findings: host_check.findings(),
        more_warnings: installer
            .as_ref()
            .map(Installer::warnings)
            .into_iter()
            .chain([metrics_warnings, certificate_warnings, wires.disk_trouble.sentences()])
            .collect(),
        foreign_plugins: installer.as_ref().map_or_else(|| watch::channel(Vec::new()).1, Installer::others),
    };
    let clean_up = CleanUp {
        config: config.clone(),
        order: wires.order.clone(),
        cleaned_up: ends.cleaned_up,
        engine: wires.engine.clone(),
        installer: installer.clone(),
        store: opened.store.clone(),
    };
    tokio::spawn(client.run());
    tokio::spawn(controller::tell_expiry(config.node.clone(), deadlines.clone(), certificate_told));
    tokio::spawn(host_check.run(wires.status.clone(), wires.targets.clone(), opened.store.clone()));
    tokio::spawn(ends.prober.run());
    tokio::spawn(tell_address(wires.connection.clone(), ends.controller));
    let said = standing::Sources {
        status: wires.status.clone(),
        engine: wires.of_engine,
        disk: wires.disk_trouble.clone(),
        pods_dir,
    };
    tokio::spawn(standing::run(pods.clone(), said, ends.standing));
    tokio::spawn(Keeper::new(pods, config.cni_results_dir.clone(), config.pod_grace).run());
    if let Some(installer) = installer {
        tokio::spawn(installer.run(wires.status.clone()));
    }
    tokio::spawn(notify::when_ready(wires.status.clone()));
    let sources = metrics::Sources {
        engine: wires.engine,
        status: wires.status,
        connection: wires.connection,
        deadlines,
        findings: wires.findings,
        pods: opened.store,
    };
    serve_metrics(&config, sources, metrics_trouble);
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(api.serve(listener, until_stopped(stopped)));
    info!(node = %config.node, version = env!("CARGO_PKG_VERSION"), "started");

    let result = tokio::select! {
        result = engine.run(ends.inputs) => result,
        result = told_to_stop() => result,
        result = clean_up.run() => result,
    };
    info!("stopping; the kernel stays as it is");
    let _ = stop.send(true);
    let _ = tokio::time::timeout(STOPPING, serving).await;
    let _ = fs::remove_file(&config.socket);
    if *wires.cleaned_up.borrow() && result.is_ok() {
        clean_up::forget_identity(&config)?;
    }
    result
}

/// The loop over this host's kernel.
fn engine(config: &Config, wires: &Wires, out: Outputs, store: &PodStore) -> anyhow::Result<Engine<Linux>> {
    let setup = Setup {
        node: config.node.clone(),
        device: config.device,
        interface: config.interface,
        mtu: config.mtu,
        unmasqueraded: config.unmasqueraded.clone(),
        addresses: config.node_addresses.clone(),
        last_good: LastGood::in_dir(&config.state_dir),
        disk_trouble: wires.disk_trouble.clone(),
        kept_underlay: KeptUnderlay::in_dir(&config.state_dir),
    };
    let kernel = Linux::open(config.device)?.with_sysctls(&config.sysctl_dir);
    let pods = store.records().values().map(|record| record.host_side()).collect();
    Ok(Engine::new(setup, kernel, out, pods, wires.findings.clone()))
}

/// What the client of the controller tells and is told.
fn links(
    wires: &Wires,
    updates: mpsc::Sender<Update>,
    order: watch::Sender<Order>,
    status: watch::Sender<ConnectionStatus>,
) -> Links {
    Links {
        updates,
        order,
        status,
        held: wires.held.clone(),
        facts: wires.facts.clone(),
        standing: wires.standing.clone(),
        cleaned_up: wires.cleaned_up.clone(),
    }
}

fn client(config: &Config, links: Links, disk_trouble: &DiskTrouble) -> anyhow::Result<Client> {
    let (controllers, credentials) = (config.controllers.clone(), config.credentials.clone());
    let client = Client::new(config.node.clone(), controllers, credentials, &config.state_dir, links)?;
    Ok(client.with_list(config.controllers_file.clone(), &config.state_dir).telling(disk_trouble.clone()))
}

/// Checks the configuration and the host and prints what it finds.
pub async fn check(config: &Config) -> anyhow::Result<()> {
    HostCheck::all(config).await
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("state directory {}: cannot be made; choose another --state-dir", path.display()))
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
