//! Weft leaves the cluster, in order: first every node, then the objects that tell of them.
//!
//! Owns the leader's part: whether a request is followed at all, the order to every agent, the word of how far that is, and
//! once every node is clean the removal of the Nodes' condition, the Vteps and the claims. Must never begin without proof that
//! somebody wants it now, and never remove an object before the nodes are clean: they are what a cleaned-up node would be
//! programmed from again.

mod hook;
mod objects;
mod record;
mod request;
mod work;

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource as _,
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use weft_api::{UninstallRequest, UninstallState, names};

pub use hook::{UninstallOptions, uninstall};

pub(super) use self::work::Phase;
use self::{
    record::Record,
    request::{Asked, Renewal},
    work::{Over, Work},
};
use super::Leader;

/// How often progress is looked at and told.
const TELL: Duration = Duration::from_secs(1);
/// How often Helm's records are looked at.
const RECORDS: Duration = Duration::from_secs(5);
/// So long a new leader waits for the renewal of a request that its predecessor followed: the hook renews every 3 s.
const TAKE_OVER: Duration = Duration::from_secs(10);
/// What to run where the request proves nothing.
const OPERATORS_WAY: &str = "to clean every node up, run `weft uninstall --kubernetes` with your own kubeconfig, and then \
    remove Weft without its hook (`helm uninstall --no-hooks`)";

/// How far the leader before us was with a request that still counts. A leader has to know before it serves: an agent that
/// was cleaned must not be told of a member.
pub(super) async fn inherited(client: &Client, namespace: &str) -> kube::Result<Phase> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let Some(map) = maps.get_opt(names::CLUSTER).await? else { return Ok(Phase::Idle) };
    let request = match Asked::of(&map) {
        Asked::ByOperator => return Ok(Phase::Cleaning),
        Asked::ByHook(request) => request,
        Asked::Nothing | Asked::Unreadable(_) => return Ok(Phase::Idle),
    };
    let record = || record::newest(client, namespace, &request);
    let phase = match request::told(&map).map(|told| told.state) {
        // Helm may have removed its records meanwhile, and removes the rest.
        Some(UninstallState::Done) if !matches!(record().await?, Record::Other(_)) => Phase::Done,
        Some(UninstallState::Running)
            if record().await? == Record::Uninstalling && is_renewed(&maps, &request).await? =>
        {
            Phase::Cleaning
        }
        _ => Phase::Idle,
    };
    Ok(phase)
}

async fn is_renewed(maps: &Api<ConfigMap>, before: &UninstallRequest) -> kube::Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < TAKE_OVER {
        sleep(TELL).await;
        let now = maps.get_opt(names::CLUSTER).await?.map(|map| Asked::of(&map));
        match now {
            Some(Asked::ByHook(request)) if request == *before => {}
            Some(Asked::ByHook(_) | Asked::ByOperator) => return Ok(true),
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Follows the request until the cluster stops, from what was [`inherited`] on. An error ends the term: the next one reads
/// anew what there is.
pub(super) async fn run(context: Leader, inherited: Phase) -> anyhow::Result<()> {
    let maps = Api::<ConfigMap>::namespaced(context.client.clone(), &context.namespace);
    let mut watch = std::pin::pin!(watch_object(maps.clone(), names::CLUSTER).default_backoff());
    let mut decision = Decision::new(&context.client, &context.namespace, inherited);
    let mut work = Work::new(context, maps, inherited);
    let mut tick = interval(TELL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            event = watch.next() => match event {
                Some(Ok(Some(map))) => {
                    decision.see(&map);
                    work.told = request::told(&map);
                }
                // Without the object there is nobody to tell; whoever removed it did not ask for more.
                Some(Ok(None)) => {}
                Some(Err(error)) => tracing::warn!("ConfigMap {} cannot be watched: {error}", names::CLUSTER),
                None => anyhow::bail!("the watch of ConfigMap {} has ended", names::CLUSTER),
            },
            _ = tick.tick(), if decision.asked != Asked::Nothing => {}
        }
        let verdict = decision.verdict(work.phase).await;
        match work.follow(verdict).await {
            Ok(()) => {}
            Err(Over::Stopping) => return Ok(()),
            Err(Over::Anew) => anyhow::bail!(
                "the uninstallation was called off after Weft's objects were removed: beginning anew with what is there"
            ),
        }
    }
}

/// What is to be done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Nobody wants it, or nobody does any more.
    No,
    /// Every node is to be clean.
    Yes,
    /// Somebody wants it and cannot prove that it is meant now: why not, and what to do instead.
    Refused(String),
}

/// Whether the request is followed.
struct Decision {
    client: Client,
    namespace: String,
    asked: Asked,
    renewal: Renewal,
    is_first: bool,
    /// What Helm's records said last, when, and for which hook.
    record: Option<(Record, Instant, String)>,
}

impl Decision {
    fn new(client: &Client, namespace: &str, inherited: Phase) -> Self {
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            asked: Asked::Nothing,
            renewal: Renewal::default(),
            // What was under way has been seen to be renewed.
            is_first: inherited == Phase::Idle,
            record: None,
        }
    }

    fn see(&mut self, map: &ConfigMap) {
        let asked = Asked::of(map);
        self.renewal.see(&asked, self.is_first);
        self.is_first = false;
        if asked == Asked::Nothing {
            self.record = None;
        }
        self.asked = asked;
    }

    async fn verdict(&mut self, phase: Phase) -> Verdict {
        let request = match &self.asked {
            Asked::Nothing => return Verdict::No,
            Asked::ByOperator => return Verdict::Yes,
            Asked::Unreadable(value) => {
                return Verdict::Refused(format!(
                    "the request {value:?} is not one of this version, or was left behind by an earlier one; {OPERATORS_WAY}"
                ));
            }
            Asked::ByHook(request) => request.clone(),
        };
        // Once all is done the hook is gone, and its records may be: only another use of the release ends that.
        if phase != Phase::Done && !self.renewal.is_fresh() {
            return Verdict::No;
        }
        match self.look_at_record(&request).await {
            Ok(Record::Uninstalling) => Verdict::Yes,
            Ok(Record::Absent) if phase == Phase::Done => Verdict::Yes,
            Ok(_) if phase == Phase::Done => Verdict::No,
            Ok(record) => Verdict::Refused(no_proof(&request, &record)),
            // Neither begun nor ended by what is not known.
            Err(error) => {
                tracing::warn!("the records of release {} cannot be read: {error}", request.release);
                if phase == Phase::Idle { Verdict::No } else { Verdict::Yes }
            }
        }
    }

    async fn look_at_record(&mut self, request: &UninstallRequest) -> kube::Result<Record> {
        if let Some((record, at, by)) = &self.record
            && at.elapsed() < RECORDS
            && *by == request.by
        {
            return Ok(record.clone());
        }
        let record = record::newest(&self.client, &self.namespace, request).await?;
        self.record = Some((record.clone(), Instant::now(), request.by.clone()));
        Ok(record)
    }
}

fn no_proof(request: &UninstallRequest, record: &Record) -> String {
    let release = &request.release;
    let found = match record {
        Record::Other(status) => format!("Helm says that release {release} is {status}"),
        _ => format!("Helm has no record of release {release} from revision {} on", request.revision),
    };
    format!("{found}, and a hook alone does not take the pod network away; {OPERATORS_WAY}")
}

/// The object that events about Weft as a whole are about.
pub(super) fn reference(namespace: &str) -> k8s_openapi::api::core::v1::ObjectReference {
    k8s_openapi::api::core::v1::ObjectReference {
        api_version: Some(ConfigMap::api_version(&()).into_owned()),
        kind: Some(ConfigMap::kind(&()).into_owned()),
        name: Some(names::CLUSTER.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
