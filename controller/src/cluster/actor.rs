//! The task that owns the cluster's state.
//!
//! Owns the order of things: commands that wait together are carried out together, their writes go to the store in one
//! batch, and only after it confirmed are streams and askers told. Must never hold anything that is not either in the
//! store or about live streams.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use weft_core::{
    membership::Log,
    types::{NodeName, PodCidr, Revision, UnixMs},
};

use super::{
    Cluster, Command, Refusal, Rules, StartError,
    cleanup::CleanUp,
    held_settings,
    pace::Pace,
    peers::PeerTable,
    publisher::Publisher,
    quarantine::Quarantine,
    registry::{Changed, Registry},
    roll::Roll,
    sessions::Sessions,
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    store::{Store, StoreError, Write},
};

/// Commands carried out together at most.
const BATCH: usize = 256;
/// Refused facts that wait for somebody to tell of them; older ones are forgotten.
const COMPLAINTS: usize = 256;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);

/// What happens once the store has answered.
pub(super) type Done = Box<dyn FnOnce(&mut Actor, Result<(), Refusal>) + Send>;

/// What several commands together ask of the store.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) writes: Vec<Write>,
    pub(super) touched: BTreeSet<NodeName>,
    pub(super) departed: Vec<(NodeName, Vec<PodCidr>)>,
    pub(super) done: Vec<Done>,
}

impl Batch {
    pub(super) fn add(&mut self, changed: Changed) {
        self.writes.extend(changed.writes);
        self.touched.extend(changed.touched);
    }

    pub(super) fn then(&mut self, done: impl FnOnce(&mut Actor, Result<(), Refusal>) + Send + 'static) {
        self.done.push(Box::new(done));
    }
}

/// The state.
pub(super) struct Actor {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) rules: Rules,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Registry,
    pub(super) sessions: Sessions,
    pub(super) pace: Pace,
    pub(super) publisher: Publisher,
    pub(super) roll: Arc<Roll>,
    pub(super) epoch: u64,
    pub(super) peers: PeerTable,
    pub(super) quarantine: Quarantine,
    /// Members whose records could not be read.
    pub(super) rewrite: BTreeSet<NodeName>,
    /// What agents said of their nodes and was refused.
    pub(super) complaints: broadcast::Sender<(NodeName, Refusal)>,
    pub(super) started_unix: UnixMs,
    /// While every agent is to clean up.
    pub(super) cleaning: Option<CleanUp>,
    stopping: Option<oneshot::Sender<()>>,
}

/// Takes a new term and begins to own the cluster. The task ends with an error where the store can neither be written
/// nor read any more.
pub(crate) async fn start(
    store: Arc<dyn Store>,
    rules: Rules,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
) -> Result<(Cluster, JoinHandle<Result<(), StoreError>>), StartError> {
    let (version, peers_version) = watch::channel(0);
    let actor = Actor::begin(store, rules, metrics, clock, version).await?;
    let (freed, complaints) = (actor.quarantine.freed(), actor.complaints.clone());
    let (sender, commands) = mpsc::channel(4096);
    let fanout = Arc::clone(actor.publisher.fanout());
    let roll = Arc::clone(&actor.roll);
    let cluster =
        Cluster { commands: sender, fanout, roll, peers_version, freed, complaints, next_session: Arc::default() };
    Ok((cluster, tokio::spawn(actor.run(commands))))
}

/// Why the task has ended by itself.
pub(crate) async fn failure(task: &mut JoinHandle<Result<(), StoreError>>) -> anyhow::Error {
    match task.await {
        Ok(Ok(())) => anyhow::anyhow!("the cluster's task ended by itself"),
        Ok(Err(error)) => {
            anyhow::Error::new(error).context("the store cannot be used any more; start again once it can")
        }
        Err(error) => anyhow::Error::new(error).context("the cluster's task failed"),
    }
}

impl Actor {
    /// Takes a new term over what the store holds.
    pub(super) async fn begin(
        store: Arc<dyn Store>,
        rules: Rules,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        version: watch::Sender<u64>,
    ) -> Result<Self, StartError> {
        let stored = store.load().await?;
        metrics.set_unreadable(stored.unreadable.len());
        let started_unix = clock.unix();
        // Persisted before anything is served: a term never repeats, whatever becomes of the clock or the store.
        let epoch = (stored.epoch + 1).max(u64::try_from(started_unix.seconds()).unwrap_or(0));
        let before = stored.settings.clone();
        let mut registry = Registry::new(stored, &rules.pools, rules.admission(), |_| Revision::new(epoch, 0))?;
        let settings = held_settings::due(&rules.settings, before.as_ref(), &registry, rules.force_settings);
        held_settings::tell(&rules.settings, &settings, &registry);
        let mut writes = vec![Write::Epoch(epoch), Write::Settings(settings.clone())];
        writes.extend(registry.begin(&rules.underlay_networks, clock.unix().seconds(), rules.kept_seconds()));
        store.commit(writes).await?;
        let log = Log::new(epoch, settings, registry.announced());
        let publisher = Publisher::new(log, rules.coalesce);
        tracing::info!(epoch, nodes = registry.nodes().len(), "a new term begins");

        let quarantine = Quarantine::new(epoch, clock.now(), rules.reconnect_grace);
        let roll = Arc::new(Roll::new(&registry));
        Ok(Self {
            store,
            clock,
            rules,
            metrics,
            registry,
            sessions: Sessions::default(),
            pace: Pace::default(),
            publisher,
            roll,
            epoch,
            peers: PeerTable::new(version),
            quarantine,
            rewrite: BTreeSet::new(),
            complaints: broadcast::channel(COMPLAINTS).0,
            started_unix,
            cleaning: None,
            stopping: None,
        })
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), StoreError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Vec::with_capacity(BATCH);
        while self.stopping.is_none() {
            let due = self.publisher.due();
            tokio::select! {
                count = commands.recv_many(&mut waiting, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.carry_out(waiting.drain(..)).await?;
                }
                () = at(due) => self.publish(),
                _ = tick.tick() => {
                    // What agents have said by now counts before anybody is judged by it.
                    let mut left = commands.len();
                    while left > 0 {
                        left -= commands.recv_many(&mut waiting, left.min(BATCH)).await;
                        self.carry_out(waiting.drain(..)).await?;
                    }
                    self.tick().await?;
                }
            }
        }
        self.sessions.close_all(&Refusal::Stopping);
        if let Some(stopped) = self.stopping {
            let _asker_is_gone = stopped.send(());
        }
        Ok(())
    }

    pub(super) async fn carry_out(&mut self, commands: impl Iterator<Item = Command>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for command in commands {
            self.handle(command, &mut batch);
        }
        self.finish(batch).await
    }

    fn handle(&mut self, command: Command, batch: &mut Batch) {
        match command {
            Command::Join(ask, reply) => self.join(&ask, reply, batch),
            Command::Renewing(identity, reply) => {
                let _gone = reply.send(self.registry.check(&identity, self.clock.unix().seconds()));
            }
            Command::Renewed(name, incarnation, ends_unix) => {
                if let Some(live) = self.sessions.of_life(&name, incarnation) {
                    live.identity.ends_unix = live.identity.ends_unix.max(ends_unix);
                }
            }
            Command::Connect(ask, id, reply) => self.connect(ask, id, reply, batch),
            Command::Report(node, id, report, source) => self.report(&node, id, report, source, batch),
            Command::Disconnect(node, id) => self.disconnect(&node, id),
            Command::AddToken(token, reply) => self.add_token(token, reply, batch),
            Command::DeleteNode(name, reply) => self.delete_node(&name, reply, batch),
            Command::Node(command) => self.node_command(command, batch),
            Command::Peers(reply) => drop(reply.send(Ok(self.peer_list()))),
            Command::Standings(reply) => drop(reply.send(Ok(self.node_standings()))),
            Command::Status(reply) => drop(reply.send(Ok(self.status()))),
            Command::CleanUp(is_on, reply) => {
                self.order_clean_up(is_on);
                let _gone = reply.send(Ok(()));
            }
            Command::CleanUpStanding(reply) => drop(reply.send(Ok(self.clean_up_standing()))),
            Command::Stop(stopped) => self.stopping = Some(stopped),
        }
    }

    pub(super) async fn tick(&mut self) -> Result<(), StoreError> {
        self.close_overdue();
        let mut batch = Batch::default();
        self.end_quarantine(&mut batch);
        self.repair(&mut batch);
        self.release_settings(&mut batch);
        self.finish(batch).await?;
        self.take_untaken().await?;
        self.refresh_peers();
        Ok(())
    }
}

/// Waits for an instant, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
