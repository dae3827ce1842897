//! The full pass: everything is read, compared, put right and read again.
//!
//! Owns how a pass ends: well, with a problem of the node, or with problems of peers. Must never call the node well by anything
//! but a reading.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use tokio::time::Instant;
use tracing::{debug, warn};
use weft_core::{
    desired::{self, Pod},
    diff::Op,
    kernel::{Key, Objects, Observed},
    membership::Member,
    standing::Reason,
};

use super::{Engine, Problem, schedule::Ended};
use crate::{
    disk_trouble,
    kernel::{Failure, Kernel, KernelError, Scope},
};

/// So many times a pass reads and applies before it calls the rest a failure.
const ROUNDS: usize = 3;
/// At most so many objects are named in a message.
const NAMED: usize = 5;

impl<K: Kernel> Engine<K> {
    /// Looks at everything, puts it right, and says how it stands.
    pub(super) async fn look(&mut self) {
        self.unheard = false;
        let problem = self.pass().await.err();
        let own = self.own_deviations();
        let blamed = self.peers_to_blame();
        for problem in blamed.0.iter().filter(|problem| !self.blamed.0.iter().any(|old| old.node == problem.node)) {
            warn!(peer = %problem.node, "what this peer needs is not in the kernel: {}", problem.message);
        }
        self.blamed = blamed;
        // What the kernel refuses of a peer's is tried again like anything else, and keeps nobody else's changes waiting.
        self.trusted = problem.is_none() && own.is_empty();
        let problem = match problem {
            Some(problem) if problem.keeps_pods_out || own.is_empty() => Some(problem),
            _ => deviation_problem(&own),
        };
        let kind = |problem: &Option<Problem>| problem.as_ref().map(|problem| problem.reason.clone());
        if kind(&problem) != kind(&self.status.problem) {
            self.since = SystemTime::now();
        }
        self.status.problem = problem;
        if self.setup.disk_trouble.has(disk_trouble::MEMBERSHIP) {
            self.schedule.tidy_now();
        }
        self.schedule.looked(match &self.status.problem {
            None if self.holdings.deviations().is_empty() => Ended::Well,
            _ if self.unheard => Ended::Unheard,
            _ => Ended::Failed,
        });
        self.publish();
    }

    async fn pass(&mut self) -> Result<(), Problem> {
        // Without an underlay what is known of the last one still holds for everything else.
        let without_underlay = self.find_underlay().await.err();
        let Some(settings) = self.view.settings().cloned() else {
            // Nobody is asked before there is an underlay to tell of.
            return Err(without_underlay.unwrap_or_else(|| {
                Problem::new(Reason::NoMembership, "no membership yet: waiting for the first answer of a controller")
            }));
        };
        let Some(me) = self.view.member(&self.setup.node) else {
            let message = "this node is not in the membership; its kernel is left as it is until it is again";
            return Err(Problem::new(Reason::NotMember, message));
        };
        let Some(local) = self.local(&settings) else {
            return Err(
                without_underlay.unwrap_or_else(|| Problem::new(Reason::NoUnderlay, "no underlay was found yet"))
            );
        };
        if self.holdings.desired().is_empty() {
            // The first pass: ids in use stay in use, so that a restart changes no route.
            let wanted = Objects::new();
            let observed = self.kernel.read(Scope::All { wanted: &wanted }).await;
            let observed = observed.map_err(|error| self.unreadable(&error))?;
            self.ids.adopt(&observed.ours);
        }
        let peers: Vec<_> = self.view.members().collect();
        let pods: Vec<Pod> = self.pods.values().cloned().collect();
        let peers = peers.iter().map(AsRef::<Member>::as_ref);
        let desired = desired::all(&settings, &me, &local, peers, &pods, &mut self.ids);
        let is_news = !self.holdings.want_all(desired);
        let converged = self.converge(is_news).await;
        self.holdings.end_pass();
        converged.map_err(|error| self.unreadable(&error))?;
        without_underlay.map_or(Ok(()), |problem| Err(problem.beside_pods()))
    }

    fn unreadable(&mut self, error: &KernelError) -> Problem {
        self.unheard |= error.is_no_answer();
        Problem::new(Reason::KernelUnreadable, error.to_string())
    }

    /// Reads and applies until a reading agrees, a few times at most. `is_news`: other objects are wanted than in the last pass.
    async fn converge(&mut self, is_news: bool) -> Result<(), KernelError> {
        let began = Instant::now();
        let mut failures = Vec::new();
        let mut changed = 0;
        for round in 0..=ROUNDS {
            let observed = self.kernel.read(Scope::All { wanted: self.holdings.desired() }).await?;
            self.forget_pods_without_link(&observed);
            // What was ours and was altered is put back where it was; only what never was has to be gone around.
            self.ids.avoid(&self.holdings.strangers(&observed));
            let plan = self.holdings.plan(&observed);
            if plan.ops.is_empty() || round == ROUNDS {
                self.unheard |= failures.iter().any(|failure: &Failure| failure.error.is_no_answer());
                self.holdings.conclude(&plan, &failures);
                if changed > 0 {
                    debug!(changed, ms = began.elapsed().as_millis(), "the kernel was put right");
                }
                return Ok(());
            }
            changed += plan.ops.len();
            failures = self.kernel.apply(&plan.ops).await;
            // Nothing else was told to us since the last pass: somebody changed the kernel.
            if round == 0 && !is_news {
                let failed: BTreeSet<&Key> = failures.iter().map(|failure| &failure.key).collect();
                self.note_repair(plan.ops.iter().map(Op::key).filter(|key| !failed.contains(key)));
            }
            for failure in &failures {
                debug!("{}: {}", failure.key, failure.error);
            }
        }
        Ok(())
    }

    /// A pod whose link is gone is the runtime's to delete; until it does, there is nothing to program.
    fn forget_pods_without_link(&mut self, observed: &Observed) {
        let gone: BTreeSet<_> = self.pods.keys().filter(|link| !observed.links.contains(link)).copied().collect();
        if gone.is_empty() {
            return;
        }
        let Some((settings, me, local)) = self.context() else { return };
        for link in &gone {
            self.holdings.forget(desired::pod(&settings, &me, &local, &self.pods[link]).keys());
        }
    }

    /// These were put right. Nobody is blamed for what the kernel itself refused us before.
    pub(super) fn note_repair<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        let (mut count, mut blamed) = (0, Vec::new());
        for key in keys {
            count += 1;
            if !self.holdings.was_refused(key) {
                blamed.push(*key);
            }
        }
        let (strays, blamed): (Vec<Key>, Vec<Key>) = blamed.into_iter().partition(|key| matches!(key, Key::Stray(_)));
        warn_of(&blamed, "somebody changed or removed objects of ours: putting them back");
        warn_of(&strays, "somebody put addresses or routes onto the VXLAN device, which lead nowhere: removing them");
        if count > 0 {
            self.status.note_repair(count, SystemTime::now());
        }
    }
}

/// Names a few of the objects; nothing is said of none.
fn warn_of(objects: &[Key], what_happened: &str) {
    if !objects.is_empty() {
        let names: Vec<_> = objects.iter().take(NAMED).map(ToString::to_string).collect();
        let more = objects.len().saturating_sub(NAMED);
        warn!(objects = names.join(", "), more, "{what_happened}");
    }
}

fn deviation_problem(deviations: &BTreeMap<Key, String>) -> Option<Problem> {
    let (key, reason) = deviations.first_key_value()?;
    let more = match deviations.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(Problem::new(Reason::KernelDiffers, format!("{key}: {reason}{more}")))
}
