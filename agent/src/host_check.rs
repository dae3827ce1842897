//! When the host is checked, and what follows from what is found.
//!
//! Before the first touch: what is missing altogether (capabilities, kernel features) ends the start. Everything else is
//! said, in the log and in `weft status`, and looked at again as long as the agent runs: a node whose pods talk must not lose
//! its agent because a firewall changed.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{error, info, warn};
use weft_core::settings::Settings;

use crate::{
    config::Config,
    engine::Status,
    preflight::{Finding, Input, Severity, preflight},
};

/// Without these nothing can be programmed.
const ENDS_THE_START: [&str; 5] = ["NoNetAdmin", "NoNetlink", "NoVxlan", "NoNexthops", "NoNftables"];
/// Firewalls and addresses of a host change without a word to us.
const PERIOD: Duration = Duration::from_secs(300);

/// The checks of a running agent.
pub(crate) struct HostCheck {
    input: Input,
    findings: watch::Sender<Vec<Finding>>,
}

fn input(config: &Config, settings: Option<Settings>) -> Input {
    Input { device: config.device, interface: config.interface, settings, sysctl_dir: config.sysctl_dir.clone() }
}

impl HostCheck {
    /// Checks what does not need the cluster's settings.
    ///
    /// # Errors
    /// Where nothing could be programmed; every reason has been logged.
    pub(crate) async fn at_start(config: &Config) -> anyhow::Result<Self> {
        let input = input(config, None);
        let check = Self { input, findings: watch::channel(Vec::new()).0 };
        check.look().await;
        let fatal = |finding: &&Finding| ENDS_THE_START.contains(&finding.code);
        let count = check.findings.borrow().iter().filter(fatal).count();
        cannot_run_yet(count)?;
        Ok(check)
    }

    /// Checks everything that can be checked without a controller, for `weft-agent check`.
    ///
    /// # Errors
    /// Where anything would keep pods from talking.
    pub(crate) async fn all(config: &Config) -> anyhow::Result<()> {
        let kept = crate::last_good::LastGood::in_dir(&config.state_dir).load().0;
        let settings = kept.map(|kept| Settings::clone(&kept.snapshot.settings));
        let input = input(config, settings);
        let check = Self { input, findings: watch::channel(Vec::new()).0 };
        check.look().await;
        let count = check.findings.borrow().iter().filter(|finding| finding.severity == Severity::Error).count();
        cannot_run_yet(count)?;
        info!("this host can run Weft");
        Ok(())
    }

    /// What was found last.
    pub(crate) fn findings(&self) -> watch::Receiver<Vec<Finding>> {
        self.findings.subscribe()
    }

    /// Looks again when the settings are known or change, and now and then.
    pub(crate) async fn run(mut self, mut status: watch::Receiver<Status>) {
        loop {
            let told: Option<Arc<Settings>> = status.borrow_and_update().settings.clone();
            self.input.settings = told.as_deref().cloned();
            if told.is_some() {
                self.look().await;
            }
            let other = |status: &Status| status.settings != told;
            tokio::select! {
                changed = status.wait_for(other) => if changed.is_err() { return },
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Checks, and logs what is new and what is over.
    async fn look(&self) {
        let found = preflight(&self.input).await;
        let before = self.findings.send_replace(found.clone());
        for finding in found.iter().filter(|finding| !before.contains(finding)) {
            match finding.severity {
                Severity::Error => error!(code = finding.code, "{}", finding.message),
                Severity::Warning => warn!(code = finding.code, "{}", finding.message),
            }
        }
        for finding in before.iter().filter(|finding| !found.contains(finding)) {
            info!(code = finding.code, "no longer: {}", finding.message);
        }
    }
}

/// The last line after what was named in the log.
fn cannot_run_yet(errors: usize) -> anyhow::Result<()> {
    match errors {
        0 => Ok(()),
        1 => anyhow::bail!("this host cannot run Weft yet: see the error above"),
        more => anyhow::bail!("this host cannot run Weft yet: see the {more} errors above"),
    }
}
