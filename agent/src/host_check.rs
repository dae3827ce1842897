//! When the host is checked, and what follows from what is found.
//!
//! Before the first touch: what is missing altogether (capabilities, kernel features) ends the start. Everything else is
//! said, in the log and in `weft status`, and looked at again as long as the agent runs: a node whose pods talk must not lose
//! its agent because a firewall changed.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{error, info, warn};
use weft_core::{
    masquerade::Unmasqueraded,
    membership::Member,
    settings::Settings,
    types::{LinkName, PerFamily, PodCidr, UnderlayAddress},
};

use crate::{
    config::Config,
    engine::Status,
    masquerade,
    pods::PodStore,
    preflight::{
        Finding, Input, Severity, preflight,
        unmasqueraded::{Answers, Counts},
    },
    probe::Targets,
};

/// Without these nothing can be programmed.
const ENDS_THE_START: [&str; 5] = ["NoNetAdmin", "NoNetlink", "NoVxlan", "NoNexthops", "NoNftables"];
/// Firewalls and addresses of a host change without a word to us.
const PERIOD: Duration = Duration::from_secs(60);

/// So many peers and pods stand for all.
const SAMPLES: usize = 8;

/// The checks of a running agent.
pub(crate) struct HostCheck {
    input: Input,
    /// Where pods go under their own addresses, if the operator said so at this node.
    unmasqueraded: Option<Unmasqueraded>,
    pod_cidrs: PerFamily<Option<PodCidr>>,
    answers: Answers,
    findings: watch::Sender<Vec<Finding>>,
}

impl HostCheck {
    /// Checks what does not need the cluster's settings.
    ///
    /// # Errors
    /// Where nothing could be programmed; every reason has been logged.
    pub(crate) async fn at_start(config: &Config) -> anyhow::Result<Self> {
        let mut check = Self::new(config);
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
        let mut check = Self::new(config);
        if let Some(snapshot) = kept.map(|kept| kept.snapshot) {
            let me: Option<&Member> =
                snapshot.members.iter().map(AsRef::as_ref).find(|member: &&Member| member.name == config.node);
            let link = crate::kept_underlay::KeptUnderlay::in_dir(&config.state_dir).load().map(|kept| kept.link);
            check.learn(Some(&snapshot.settings), link, me.map(|me| &me.underlay));
            let others = snapshot.members.iter().filter(|member| member.name != config.node);
            check.input.nodes = others.flat_map(|other| other.named_underlays()).collect();
            check.pod_cidrs = me.map(|me| me.pod_cidrs).unwrap_or_default();
        }
        check.look().await;
        let count = check.findings.borrow().iter().filter(|finding| finding.severity == Severity::Error).count();
        cannot_run_yet(count)?;
        info!("this host can run Weft");
        Ok(())
    }

    fn new(config: &Config) -> Self {
        let input = Input {
            device: config.device,
            interface: config.interface,
            sysctl_dir: config.sysctl_dir.clone(),
            ..Input::default()
        };
        let unmasqueraded = config.unmasqueraded.clone();
        let (pod_cidrs, answers, findings) = (PerFamily::default(), Answers::default(), watch::channel(Vec::new()).0);
        Self { input, unmasqueraded, pod_cidrs, answers, findings }
    }

    /// Takes what the cluster and the engine say.
    fn learn(
        &mut self,
        settings: Option<&Settings>,
        link: Option<LinkName>,
        underlay: Option<&PerFamily<Option<UnderlayAddress>>>,
    ) {
        self.input.interface = link.or(self.input.interface);
        let decided = settings.map(|settings| masquerade::decided(self.unmasqueraded.as_ref(), settings));
        self.input.unmasqueraded = decided.unwrap_or_default();
        self.input.settings = settings.cloned();
        let addresses = underlay.into_iter().flat_map(|addresses| addresses.iter());
        self.input.announced = addresses.map(|address| address.address()).collect();
    }

    /// Takes some of those whose packets must get through.
    fn learn_samples(&mut self, targets: &Targets, store: &PodStore) {
        self.input.vteps = targets.sources;
        self.input.nodes = Arc::clone(&targets.underlays);
        self.input.peers = targets.peers.iter().take(SAMPLES).map(|(_, address)| *address).collect();
        let records = store.records();
        let pods = records.values().flat_map(|record| record.addresses.iter().map(|address| (record.link, *address)));
        self.input.pods = pods.take(SAMPLES).collect();
    }

    /// What was found last.
    pub(crate) fn findings(&self) -> watch::Receiver<Vec<Finding>> {
        self.findings.subscribe()
    }

    /// Looks again when the settings are known or change, and now and then.
    pub(crate) async fn run(
        mut self,
        mut status: watch::Receiver<Status>,
        targets: watch::Receiver<Arc<Targets>>,
        store: PodStore,
    ) {
        loop {
            self.learn_samples(&targets.borrow().clone(), &store);
            let now = status.borrow_and_update().clone();
            let told: Option<Arc<Settings>> = now.settings;
            let underlay = now.underlay.as_ref();
            self.learn(told.as_deref(), underlay.map(|found| found.link), underlay.map(|found| &found.addresses));
            self.pod_cidrs = now.pod_cidrs;
            if told.is_some() {
                self.look().await;
            }
            let link = now.underlay.as_ref().map(|underlay| underlay.link);
            let other = |status: &Status| {
                status.settings != told || status.underlay.as_ref().map(|underlay| underlay.link) != link
            };
            tokio::select! {
                changed = status.wait_for(other) => if changed.is_err() { return },
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    /// Checks, and logs what is new and what is over.
    async fn look(&mut self) {
        let mut found = preflight(&self.input).await;
        if let Some(counts) = Counts::read().await {
            self.answers.look(counts);
        }
        found.extend(self.answers.finding(&self.input.unmasqueraded, self.pod_cidrs));
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
