//! How every node stands, in the status of its Vtep: `kubectl get vteps` is the peer list.
//!
//! Owns that status and nothing else of the object; the store owns the spec. Follows the cluster's own judgement, writes
//! what differs, states before figures, within a budget ([`pace`]). What it believes to be there is read again now and
//! then, so that a hand's edit or a deposed leader's last word does not stay. Must never delete a Vtep, nor speak for a
//! node that the store could not read.

mod pace;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::{jiff::Timestamp, serde_json::json};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
};
use tokio::time::{Instant, sleep_until, timeout_at};
use weft_api::{Vtep, VtepState, VtepStatus};
use weft_core::standing::State;

use self::{
    pace::Pacer,
    status::{Change, change},
};
use super::Leader;
use crate::cluster::NodeStanding;

/// Requests under way at a time.
const PARALLEL: usize = 8;
/// Objects in one answer.
const PAGE: u32 = 500;
/// Between two rounds.
const ROUND: Duration = Duration::from_millis(500);
/// After a write that failed; doubled with each that follows.
const RETRY: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How often everything is read again.
const READ_AGAIN: Duration = Duration::from_secs(600);
/// At the beginning of a term agents come back within that time: until then nobody is called disconnected.
const RETURN: Duration = Duration::from_secs(30);

/// Runs until the cluster stops.
pub(super) async fn run(context: Leader) -> anyhow::Result<()> {
    let mut version = context.cluster.peers_version();
    let mut writer = Writer::new(context.client);
    loop {
        let begun = Instant::now();
        if writer.read_at <= begun {
            writer.read().await;
        }
        // The cluster has stopped: so does this.
        let Ok(standings) = context.cluster.standings().await else { return Ok(()) };
        let next = writer.round(&standings).await.unwrap_or(writer.read_at).min(writer.read_at);
        // Events and deadlines lead to the next round, but not at once.
        sleep_until(begun + ROUND).await;
        if let Ok(Err(_gone)) = timeout_at(next, version.changed()).await {
            return Ok(());
        }
        version.mark_unchanged();
    }
}

/// What is known of one object.
#[derive(Debug, Default)]
struct Known {
    status: Option<VtepStatus>,
    generation: Option<i64>,
    /// The store has marked it.
    is_departed: bool,
    /// The cluster knew its node in this term.
    was_present: bool,
    /// Writes that failed one after the other.
    failures: u32,
    /// None are tried before.
    retry_at: Option<Instant>,
}

/// Writes statuses.
struct Writer {
    api: Api<DynamicObject>,
    known: BTreeMap<String, Known>,
    pacer: Pacer,
    /// Nobody is called disconnected before.
    returned_at: Instant,
    /// When everything is read again.
    read_at: Instant,
    failed_reads: u32,
}

impl Writer {
    fn new(client: Client) -> Self {
        let now = Instant::now();
        // Untyped: one object that somebody has spoiled must not hide all others.
        let api = Api::all_with(client, &ApiResource::erase::<Vtep>(&()));
        let (known, pacer) = (BTreeMap::new(), Pacer::new(now));
        Self { api, known, pacer, returned_at: now + RETURN, read_at: now, failed_reads: 0 }
    }

    /// Reads all statuses; where that fails, what is known stays.
    async fn read(&mut self) {
        match self.list().await {
            Ok(objects) => {
                self.known.retain(|name, _| objects.contains_key(name));
                for (name, object) in objects {
                    self.note(name, &object);
                }
                self.failed_reads = 0;
                self.read_at = Instant::now() + READ_AGAIN.mul_f64(1.0 + jitter());
            }
            Err(error) => {
                tracing::warn!("the Vteps cannot be listed: {error}; trying again");
                self.failed_reads += 1;
                self.read_at = Instant::now() + backoff(self.failed_reads);
            }
        }
    }

    async fn list(&self) -> kube::Result<BTreeMap<String, DynamicObject>> {
        let mut objects = BTreeMap::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = self.api.list(&params).await?;
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            objects.extend(page.items.into_iter().filter_map(|object| Some((object.metadata.name.clone()?, object))));
            match next {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(objects),
            }
        }
    }

    fn note(&mut self, name: String, object: &DynamicObject) {
        let status = object.data.get("status").cloned();
        let status = status.and_then(|status| k8s_openapi::serde_json::from_value(status).ok());
        let is_departed = object.data["spec"]["departed"].as_bool().unwrap_or_default();
        let generation = object.metadata.generation;
        let was_present = self.known.get(&name).is_some_and(|known| known.was_present);
        self.known.insert(name, Known { status, generation, is_departed, was_present, ..Known::default() });
    }

    /// Writes what differs and may be written now; returns when there is more to do without anything new.
    async fn round(&mut self, standings: &[NodeStanding]) -> Option<Instant> {
        let (now, clock) = (Instant::now(), Timestamp::now());
        let mut wanted = self.wanted(standings, now, clock);
        let changes = wanted.iter().map(|(name, (_, change))| (name.clone(), *change)).collect();
        let (chosen, later) = self.pacer.choose(changes, standings.len(), now);
        let mut writes = Vec::with_capacity(chosen.len());
        for name in chosen {
            writes.extend(wanted.remove(&name).map(|(status, _)| (name, status)));
        }
        let api = &self.api;
        let write = |(name, status): (String, VtepStatus)| async move {
            let patch = Patch::Merge(json!({ "status": status }));
            let written = api.patch_status(&name, &PatchParams::default(), &patch).await;
            (name, written)
        };
        let written: Vec<_> =
            futures::stream::iter(writes.into_iter().map(write)).buffer_unordered(PARALLEL).collect().await;
        for (name, outcome) in written {
            self.settle(name, outcome);
        }
        let retries = self.known.values().filter_map(|known| known.retry_at);
        let held_back = (now < self.returned_at).then_some(self.returned_at);
        later.into_iter().chain(retries).chain(held_back).min()
    }

    fn settle(&mut self, name: String, outcome: kube::Result<DynamicObject>) {
        match outcome {
            Ok(object) => self.note(name, &object),
            Err(error) if is_gone(&error) => {
                self.known.remove(&name);
                self.pacer.forget(&name);
            }
            Err(error) => {
                let known = self.known.entry(name.clone()).or_default();
                known.failures += 1;
                known.retry_at = Some(Instant::now() + backoff(known.failures));
                if known.failures == 1 {
                    tracing::warn!(node = %name, "the status of Vtep {name} cannot be written: {error}; trying again");
                }
            }
        }
    }

    /// The statuses that differ from those there are.
    fn wanted(
        &mut self,
        standings: &[NodeStanding],
        now: Instant,
        clock: Timestamp,
    ) -> BTreeMap<String, (VtepStatus, Change)> {
        let mut wanted = BTreeMap::new();
        let mut present = BTreeSet::new();
        for standing in standings {
            let name = standing.name.as_str();
            present.insert(name);
            // The store makes the object before the cluster tells of the node.
            let known = self.known.entry(name.to_owned()).or_default();
            known.was_present = true;
            let before = known.status.as_ref();
            if known.retry_at.is_some_and(|at| now < at) || (now < self.returned_at && is_held_back(standing, before)) {
                continue;
            }
            known.retry_at = None;
            let status = status::status(standing, before, known.generation, now < self.returned_at, clock);
            if let Some(change) = change(before, &status) {
                wanted.insert(name.to_owned(), (status, change));
            }
        }
        for (name, known) in self.known.iter_mut().filter(|(name, _)| !present.contains(name.as_str())) {
            // One that was there in this term, or that the store has marked: others the store may not have understood.
            let is_ours = known.is_departed || known.was_present;
            let Some(before) = known.status.as_ref().filter(|_| is_ours && known.retry_at.is_none_or(|at| at <= now))
            else {
                continue;
            };
            known.retry_at = None;
            let status = status::departed(before, known.generation, clock);
            if let Some(change) = change(Some(before), &status) {
                wanted.insert(name.clone(), (status, change));
            }
        }
        wanted
    }
}

/// While agents come back to a new leader, what was said before of those that have not come yet still stands.
fn is_held_back(standing: &NodeStanding, before: Option<&VtepStatus>) -> bool {
    let is_unsure = matches!(standing.state, State::Disconnected | State::Pending);
    let was_sure = |before: &VtepStatus| !matches!(before.state, VtepState::Pending | VtepState::Departed);
    is_unsure && before.is_some_and(was_sure)
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn backoff(failures: u32) -> Duration {
    let pause = RETRY.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_RETRY);
    pause.mul_f64(1.0 + jitter())
}

/// Up to a quarter, so that several of us do not come together.
fn jitter() -> f64 {
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    f64::from(nanos % 1000) / 4000.0
}

#[cfg(test)]
pub(super) mod tests;
