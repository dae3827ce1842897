//! One hollow agent: the real client, and behind it a membership that is acknowledged as soon as it is held.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::Result;
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::AbortHandle,
};
use weft_agent::controller::{Client, ConnectionStatus, Credentials, Held, Links, Standing, Update};
use weft_core::{
    membership::View,
    standing::Facts,
    types::{NodeName, Revision},
};

use super::shelf::Shelf;

/// How far an agent is, for whoever waits for it.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    epoch: AtomicU64,
    sequence: AtomicU64,
    /// Microseconds since `began` at the last acknowledgement.
    at_us: AtomicU64,
    /// Messages that counted.
    updates: AtomicU64,
}

impl Progress {
    fn note(&self, revision: Revision) {
        let at = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.at_us.store(at, Ordering::Relaxed);
        self.epoch.store(revision.epoch, Ordering::Relaxed);
        self.updates.fetch_add(1, Ordering::Relaxed);
        self.sequence.store(revision.sequence, Ordering::Release);
    }

    /// What it has acknowledged.
    pub(super) fn revision(&self) -> Revision {
        let sequence = self.sequence.load(Ordering::Acquire);
        Revision::new(self.epoch.load(Ordering::Relaxed), sequence)
    }

    /// How many messages counted so far.
    pub(super) fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    /// Milliseconds from `since` to its last acknowledgement.
    pub(super) fn ms_since(&self, since: Instant) -> f64 {
        let since = since.duration_since(self.began).as_secs_f64() * 1e3;
        let at = std::time::Duration::from_micros(self.at_us.load(Ordering::Relaxed)).as_secs_f64() * 1e3;
        at - since
    }
}

/// A running agent; it ends with its value.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) progress: Arc<Progress>,
    held: watch::Sender<Held>,
    facts: watch::Sender<Option<Facts>>,
    tasks: [AbortHandle; 2],
}

impl Agent {
    /// Starts it on `runtime` with the identity in `state_dir`.
    pub(super) fn start(
        runtime: &Handle,
        name: NodeName,
        controller: &str,
        state_dir: &Path,
        facts: Facts,
        shelf: Arc<Shelf>,
    ) -> Result<Self> {
        let (updates_in, updates) = mpsc::channel(4);
        let (held, held_out) = watch::channel(Held::default());
        let (facts, facts_out) = watch::channel(Some(facts));
        let (standing, standing_out) = watch::channel(Standing::default());
        let (status, _) = watch::channel(ConnectionStatus::default());
        let (order, cleaned_up) = (watch::Sender::default(), watch::Sender::new(false).subscribe());
        let links = Links {
            updates: updates_in,
            held: held_out,
            facts: facts_out,
            standing: standing_out,
            order,
            cleaned_up,
            status,
        };
        let client = Client::new(name, vec![controller.to_owned()], Credentials::JoinToken(None), state_dir, links)?;
        let progress = Arc::new(Progress {
            began: Instant::now(),
            epoch: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            at_us: AtomicU64::new(0),
            updates: AtomicU64::new(0),
        });
        let engine = Engine { held: held.clone(), standing, progress: Arc::clone(&progress), shelf };
        let tasks = [runtime.spawn(client.run()).abort_handle(), runtime.spawn(engine.run(updates)).abort_handle()];
        Ok(Self { progress, held, facts, tasks })
    }

    /// Makes it drop its connection and come back with what it holds.
    pub(super) fn reconnect(&self) {
        self.held.send_modify(|held| held.resyncs += 1);
    }

    /// Changes what it says of itself.
    pub(super) fn change(&self, change: impl FnOnce(&mut Facts)) {
        self.facts.send_modify(|facts| change(facts.as_mut().expect("known from the start")));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// What stands in for the loop over a kernel.
struct Engine {
    held: watch::Sender<Held>,
    standing: watch::Sender<Standing>,
    progress: Arc<Progress>,
    shelf: Arc<Shelf>,
}

impl Engine {
    async fn run(self, mut updates: mpsc::Receiver<Update>) {
        let mut view = Arc::new(View::new());
        while let Some(update) = updates.recv().await {
            match self.shelf.after(&view, update) {
                Ok(next) => view = next,
                Err(error) => {
                    // As the real loop does: the stream starts anew with what is held.
                    eprintln!("a hollow agent asks again, since it refuses what it was told: {error:#}");
                    self.held.send_modify(|held| held.resyncs += 1);
                    continue;
                }
            }
            let (revision, digests) = (view.revision(), view.digests());
            self.held.send_modify(|held| (held.revision, held.digests) = (Some(revision), Some(digests)));
            self.standing.send_modify(|standing| standing.applied = Some(revision));
            self.progress.note(revision);
        }
    }
}
