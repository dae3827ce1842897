//! Keeps the CNI plugin and its configuration in place for as long as the agent runs.
//!
//! Owns when: first once the data plane was read back complete, because a configuration in place is what tells the runtime
//! that pods can come; then now and then, because somebody may remove files or bring a plugin that was missing. Must never
//! put anything back after it was told to remove it.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking, time::sleep};
use tracing::{error, info, warn};

use crate::{
    cni::install::{self, Installed},
    config::CniPaths,
    engine::Status,
};

/// Nobody tells us when files change.
const PERIOD: Duration = Duration::from_secs(300);

/// What is said when files were written, the first time and later.
const INSTALLED: &str = "the CNI plugin is installed: pods can come";
const PUT_BACK: &str = "the CNI plugin's files were missing or altered, and are as they should be again";

/// The plugin's files on this host.
#[derive(Debug, Clone)]
pub(crate) struct Installer {
    files: Arc<Files>,
    warnings: watch::Sender<Vec<String>>,
    others: watch::Sender<Vec<String>>,
}

#[derive(Debug)]
struct Files {
    paths: CniPaths,
    socket: PathBuf,
    /// False once they are to be gone. Held while files change, so that an installation under way comes first.
    wanted: Mutex<bool>,
}

impl Installer {
    /// Of these files; the configuration will name `socket`.
    pub(crate) fn new(paths: CniPaths, socket: PathBuf) -> Self {
        let files = Arc::new(Files { paths, socket, wanted: Mutex::new(true) });
        Self { files, warnings: watch::Sender::default(), others: watch::Sender::default() }
    }

    /// What an operator should know of the files.
    pub(crate) fn warnings(&self) -> watch::Receiver<Vec<String>> {
        self.warnings.subscribe()
    }

    /// Types of the plugins that somebody else put behind ours.
    pub(crate) fn others(&self) -> watch::Receiver<Vec<String>> {
        self.others.subscribe()
    }

    /// Runs until the task is dropped.
    pub(crate) async fn run(self, mut status: watch::Receiver<Status>) {
        let mut said = INSTALLED;
        let complete = |status: &Status| status.ready && status.pod_mtu.is_some() && !status.pod_cidrs.is_empty();
        while status.wait_for(complete).await.is_ok() {
            let files = Arc::clone(&self.files);
            match spawn_blocking(move || files.install()).await {
                Ok(Ok(Some(installed))) => self.tell(installed, std::mem::replace(&mut said, PUT_BACK)),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => self.warn(vec![format!("the CNI plugin cannot be installed: {error:#}")]),
                Err(error) => error!("the CNI plugin cannot be installed: {error}"),
            }
            sleep(PERIOD).await;
        }
    }

    /// Removes the files, and puts them back never again. Blocking.
    ///
    /// # Errors
    /// Where a file of ours cannot be removed. What is not ours is a warning.
    pub(crate) fn remove(&self) -> anyhow::Result<Vec<String>> {
        let mut wanted = self.files.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        *wanted = false;
        install::remove(&self.files.paths.bin_dir, &self.files.paths.conf_dir)
    }

    fn tell(&self, installed: Installed, written: &str) {
        if !installed.written.is_empty() {
            let files: Vec<_> = installed.written.iter().map(|path| path.display().to_string()).collect();
            info!(files = files.join(", "), "{written}");
        }
        self.warn(installed.warnings);
        let before = self.others.send_replace(installed.others.clone());
        for other in installed.others.iter().filter(|other| !before.contains(other)) {
            info!(plugin = other, "somebody else put this plugin behind weft-cni: it stays there");
        }
    }

    /// Logs what is new; the rest is known.
    fn warn(&self, warnings: Vec<String>) {
        let before = self.warnings.borrow().clone();
        warnings.iter().filter(|warning| !before.contains(warning)).for_each(|warning| warn!("{warning}"));
        self.warnings.send_replace(warnings);
    }
}

impl Files {
    fn install(&self) -> anyhow::Result<Option<Installed>> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if *wanted { install::install(&self.paths, &self.socket).map(Some) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn in_dir(dir: &Path) -> Installer {
        fs::create_dir_all(dir).expect("a writable temp dir");
        fs::write(dir.join("built"), "a plugin").expect("write");
        let paths = CniPaths {
            bin_dir: dir.join("bin"),
            conf_dir: dir.join("net.d"),
            binary: dir.join("built"),
            chain: vec![crate::config::Chained::Portmap],
        };
        Installer::new(paths, "/run/weft/agent.sock".into())
    }

    fn complete() -> Status {
        let mut status = Status::default();
        status.pod_cidrs.v4 = Some("10.244.1.0/24".parse().expect("a CIDR"));
        (status.ready, status.pod_mtu) = (true, Some(1450));
        status
    }

    #[tokio::test(start_paused = true)]
    async fn installs_when_complete_repairs_and_stays_away_after_the_removal() {
        let dir = std::env::temp_dir().join(format!("weft-installer-{}", std::process::id()));
        let installer = in_dir(&dir);
        let conflist = dir.join("net.d").join(install::CONFLIST);
        let (tell, status) = watch::channel(Status::default());
        let mut warnings = installer.warnings();
        let task = tokio::spawn(installer.clone().run(status));
        sleep(PERIOD * 3).await;
        assert!(!conflist.exists(), "pods would come before the data plane");
        tell.send_replace(complete());
        warnings.changed().await.expect("it runs");
        assert!(conflist.exists());
        assert!(warnings.borrow_and_update()[0].contains("portmap"), "{:?}", warnings.borrow());

        fs::remove_file(&conflist).expect("somebody does");
        fs::write(dir.join("bin/portmap"), "").expect("somebody brings it");
        warnings.changed().await.expect("it runs");
        assert!(fs::read_to_string(&conflist).expect("back again").contains("portmap"));
        assert!(warnings.borrow_and_update().is_empty());

        assert_eq!(installer.remove().expect("ours"), Vec::<String>::new());
        sleep(PERIOD * 3).await;
        assert!(!conflist.exists(), "it was told to remove it");
        task.abort();
        fs::remove_dir_all(&dir).expect("ours");
    }
}
