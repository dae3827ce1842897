//! The full pass: everything is read, compared, put right and read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::{Engine, FULL_LOOK, Problem, RETRY, UNHEARD_DOUBLINGS};
use crate::disk_trouble;
use crate::kernel::{Failure, Kernel, KernelError, Scope};
use tokio::time::Instant;
use tracing::{debug, warn};
use weft_core::{
    desired::{self, Local, Pod},
    diff::{Op, Plan, diff},
    kernel::{Key, Objects, Observed},
    membership::Member,
    standing::Reason,
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
        self.last_look = Instant::now();
        if self.setup.disk_trouble.has(disk_trouble::MEMBERSHIP) {
            self.tidy_at.get_or_insert(self.last_look);
        }
        let is_well = self.status.problem.is_none() && self.deviations.is_empty();
        self.failed_looks = if is_well { 0 } else { self.failed_looks.saturating_add(1) };
        // Jitter keeps the nodes of a cluster, and what their looks cost, apart.
        let pause = match self.failed_looks {
            0 => FULL_LOOK,
            failed if self.unheard => RETRY.saturating_mul(1 << failed.min(UNHEARD_DOUBLINGS)),
            failed => RETRY.saturating_mul(1 << failed.min(8)).min(FULL_LOOK),
        };
        self.next_look = self.last_look + pause.mul_f64(0.8 + 0.4 * fastrand::f64());
        self.publish();
    }

    async fn pass(&mut self) -> Result<(), Problem> {
        // Without an underlay what is known of the last one still holds for everything else.
        let without_underlay = self.find_underlay().await.err();
        let Some(settings) = self.view.settings().cloned() else {
            return Err(Problem::new(
                Reason::NoMembership,
                "no membership yet: waiting for the first answer of a controller",
            ));
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
        if self.desired.is_empty() {
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
        let before = std::mem::replace(&mut self.desired, desired);
        let converged = self.converge(&before, &local).await;
        if converged.is_err() {
            self.unproven.extend(self.desired.keys().filter(|key| !before.contains_key(key)));
        }
        converged.map_err(|error| self.unreadable(&error))?;
        without_underlay.map_or(Ok(()), |problem| Err(problem.beside_pods()))
    }

    fn unreadable(&mut self, error: &KernelError) -> Problem {
        self.unheard |= error.is_no_answer();
        Problem::new(Reason::KernelUnreadable, error.to_string())
    }

    /// Reads and applies until a reading agrees, a few times at most.
    async fn converge(&mut self, before: &Objects, local: &Local) -> Result<(), KernelError> {
        let began = Instant::now();
        let mut failures = Vec::new();
        let mut changed = 0;
        for round in 0..=ROUNDS {
            let observed = self.kernel.read(Scope::All { wanted: &self.desired }).await?;
            self.forget_pods_without_link(&observed);
            let held = |key: &Key| before.contains_key(key) && !self.unproven.contains(key);
            // What was ours and was altered is put back where it was; only what never was has to be gone around.
            self.ids.avoid(&observed.foreign.iter().filter(|key| !held(key)).copied().collect());
            let plan = diff(&observed, &self.desired, &held, local.device);
            if plan.ops.is_empty() || round == ROUNDS {
                let open = plan.ops.iter().map(Op::key).chain(&plan.conflicts);
                // What was ours stays ours, however long somebody keeps it from us.
                let unproven = open.filter(|key| !held(key)).copied().collect();
                self.unheard |= failures.iter().any(|failure: &Failure| failure.error.is_no_answer());
                self.deviations = deviations(&plan, &failures);
                self.refused = plan.ops.iter().map(|op| *op.key()).collect();
                self.unproven = unproven;
                if changed > 0 {
                    debug!(changed, ms = began.elapsed().as_millis(), "the kernel was put right");
                }
                return Ok(());
            }
            changed += plan.ops.len();
            failures = self.kernel.apply(&plan.ops).await;
            // Nothing else was told to us since the last look: somebody changed the kernel.
            if round == 0 && *before == self.desired {
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
            for key in desired::pod(&settings, &me, &local, &self.pods[link]).into_keys() {
                self.desired.remove(&key);
            }
        }
    }

    /// These were put right. Nobody is blamed for what the kernel itself refused us before.
    pub(super) fn note_repair<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        let (mut count, mut blamed) = (0, Vec::new());
        for key in keys {
            count += 1;
            if !self.refused.contains(key) {
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

    /// Removes every object of ours.
    pub(super) async fn clear(&mut self) -> anyhow::Result<usize> {
        let nothing = Objects::new();
        let mut removed = 0;
        for _ in 0..=ROUNDS {
            let observed = self.kernel.read(Scope::All { wanted: &nothing }).await?;
            let plan = diff(&observed, &nothing, &|_| false, self.setup.device);
            if plan.ops.is_empty() {
                return Ok(removed);
            }
            removed += plan.ops.len();
            for Failure { key, error } in self.kernel.apply(&plan.ops).await {
                warn!("{key} was not removed: {error}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("some objects are still there; see the messages above")
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

/// What could not be put right, with the kernel's reason where it gave one.
fn deviations(plan: &Plan, failures: &[Failure]) -> BTreeMap<Key, String> {
    let reason = |key: &Key| {
        let failure = failures.iter().find(|failure| failure.key == *key);
        let told = failure.map(|failure| failure.error.to_string());
        // The errors of most operations begin with their object, which is told anyway.
        let told = told.map(|text| text.strip_prefix(&format!("{key}: ")).map(str::to_owned).unwrap_or(text));
        told.unwrap_or_else(|| "is not as it should be".to_owned())
    };
    let conflict =
        "its place is held by an object that is not ours; remove that one, or move it to another metric or name";
    let ops = plan.ops.iter().map(|op| (*op.key(), reason(op.key())));
    ops.chain(plan.conflicts.iter().map(|key| (*key, conflict.to_owned()))).collect()
}
