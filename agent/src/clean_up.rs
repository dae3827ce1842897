//! Leaving a node: everything of Weft's goes from this host, and nothing else does.
//!
//! Owns the order, for the command `weft-agent cleanup` and for the controller's order alike: the CNI files first, so that
//! no more pods come; the membership on disk, so that an agent that starts now programs nothing; pods' links; the kernel;
//! the pods' addresses. Must never be set off by a signal, nor end half done in silence.

use std::{fs, io, path::Path, time::Duration};

use anyhow::Context;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use weft_core::standing::Reason;

use crate::{
    cni::install,
    config::Config,
    controller::{Order, note_of},
    durable,
    engine::{Handle, Problem, remove_everything},
    installer::Installer,
    kept_underlay::KeptUnderlay,
    kernel::Linux,
    last_good::LastGood,
    pods::{self, DirDisk, PodStore},
    veth,
};

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(3);

/// Removes everything of ours from this host, without an agent: `weft-agent cleanup`.
pub async fn cleanup(config: Config) -> anyhow::Result<()> {
    if std::os::unix::net::UnixStream::connect(&config.socket).is_ok() {
        anyhow::bail!("socket {}: an agent is running; stop it first", config.socket.display());
    }
    if let Some(cni) = &config.cni {
        let warnings = install::remove(&cni.bin_dir, &cni.conf_dir).context("the CNI files cannot be removed")?;
        warnings.iter().for_each(|warning| warn!("{warning}"));
    }
    remove_membership(&config.state_dir)?;
    let pods_dir = config.state_dir.join("pods");
    let mut removed = 0;
    if pods_dir.is_dir() {
        let disk = DirDisk::open(&pods_dir).with_context(|| format!("pods directory {}", pods_dir.display()))?;
        removed += unplug(&PodStore::open(disk)?.store, &config.cni_results_dir)?;
    }
    let mut kernel = Linux::open(config.device)?.with_sysctls(&config.sysctl_dir);
    removed += remove_everything(&mut kernel, config.device).await?;
    remove_dir(&pods_dir)?;
    remove_dir(&config.state_dir.join("identity"))?;
    info!(objects = removed, "removed what Weft made on this host");
    Ok(())
}

/// What the controller's order takes.
pub(crate) struct CleanUp {
    pub(crate) config: Config,
    pub(crate) order: watch::Receiver<Order>,
    pub(crate) cleaned_up: watch::Sender<bool>,
    pub(crate) engine: Handle,
    pub(crate) installer: Option<Installer>,
    pub(crate) store: PodStore,
}

impl CleanUp {
    /// Waits for the order and carries it out. Returns only when it was called off: an agent that has removed parts of
    /// what it holds has to start anew to be of use.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut order = self.order.clone();
        let told = order.wait_for(|order| *order != Order::Serve).await;
        told.context("the client of the controller has ended")?;
        warn!("the controller has this node cleaned up: everything of Weft is removed from it");
        tokio::select! {
            never = self.carry_out() => match never {},
            called_off = order.wait_for(|order| *order == Order::CalledOff) => {
                called_off.context("the client of the controller has ended")?;
            }
        }
        anyhow::bail!("the clean-up of this node was called off: starting anew")
    }

    async fn carry_out(&self) -> std::convert::Infallible {
        let mut problem =
            Problem::new(Reason::CleaningUp, "everything of Weft is being removed from this node, as ordered");
        loop {
            let begun = Instant::now();
            match self.attempt(problem.clone()).await {
                Ok(removed) => {
                    info!(objects = removed, "nothing of Weft is left on this node; waiting to be ended");
                    self.cleaned_up.send_replace(true);
                    std::future::pending::<()>().await;
                }
                Err(error) => {
                    warn!("this node is not clean yet: {error:#}; trying again");
                    problem = Problem::new(Reason::CleanUpFailed, format!("{error:#}"));
                    // The controller tells it those who wait; a loop that has ended, ends this one as well.
                    let _ended = self.engine.halt(problem.clone()).await;
                }
            }
            sleep_until(begun + RETRY).await;
        }
    }

    /// Goes through everything; what is gone already is a success. `problem` is what the node says meanwhile.
    async fn attempt(&self, problem: Problem) -> anyhow::Result<usize> {
        self.engine.halt(problem).await?;
        if let Some(installer) = self.installer.clone() {
            let removing = spawn_blocking(move || installer.remove()).await.context("the CNI files")?;
            let warnings = removing.context("the CNI files cannot be removed")?;
            warnings.iter().for_each(|warning| warn!("{warning}"));
        }
        remove_membership(&self.config.state_dir)?;
        let (store, results) = (self.store.clone(), self.config.cni_results_dir.clone());
        let unplugged = spawn_blocking(move || unplug(&store, &results)).await.context("the pods' links")??;
        let removed = self.engine.clear().await?;
        for key in self.store.records().keys() {
            self.store.release(key).await.with_context(|| format!("the addresses of {key} cannot be freed"))?;
        }
        remove_dir(&self.config.state_dir.join("pods"))?;
        remove_dir(&self.config.socket.with_file_name("released"))?;
        remove_dir(&self.config.socket.with_file_name("locks"))?;
        Ok(unplugged + removed)
    }
}

/// Removes what kept the agent on its stream so far: the last of it all, when a node that is clean is left.
pub(crate) fn forget_identity(config: &Config) -> anyhow::Result<()> {
    let note = note_of(&config.state_dir);
    durable::remove(&note).with_context(|| format!("{}: cannot be removed", note.display()))?;
    remove_dir(&config.state_dir.join("identity"))
}

/// Pods whose addresses are about to be forgotten must not go on using them: their links go, and with them those that
/// nobody has an address for.
fn unplug(store: &PodStore, results: &Path) -> anyhow::Result<usize> {
    let mut unplugged = 0;
    for key in store.records().keys() {
        unplugged += usize::from(veth::unplug(key).with_context(|| format!("the link of {key} cannot be removed"))?);
    }
    Ok(unplugged + pods::delete_links(results).context("the links of pods cannot be removed")?)
}

fn remove_membership(state_dir: &Path) -> anyhow::Result<()> {
    KeptUnderlay::in_dir(state_dir).remove().context("the kept underlay cannot be removed")?;
    LastGood::in_dir(state_dir).remove().context("the last good membership cannot be removed")
}

fn remove_dir(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
