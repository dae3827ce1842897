//! Requests: the host's side of pods, and questions.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::{mpsc, oneshot};
use weft_core::{
    desired::{self, Pod},
    kernel::{Key, Objects, Observed, Value},
    nft::CounterName,
    types::LinkName,
};

use super::{Dropped, Engine, EngineError, Request};
use crate::kernel::Kernel;

/// So many requests share a pass at most, so that the membership is not kept waiting.
const AT_ONCE: usize = 64;

type Answer = oneshot::Sender<Result<(), EngineError>>;

impl<K: Kernel> Engine<K> {
    /// Carries out a request, and with it those that wait behind it: pods that come or go at once share one pass. Whoever
    /// asked may be gone by now: that changes nothing.
    pub(super) async fn requests(&mut self, first: Request, queue: &mut mpsc::Receiver<Request>) {
        let (mut coming, mut going) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        let mut left = AT_ONCE;
        while let Some(request) = next {
            // What comes after a request of another kind must not overtake it.
            if !matches!(request, Request::EnsurePod(..)) {
                self.ensure_pods(std::mem::take(&mut coming)).await;
            }
            if !matches!(request, Request::RemovePod(..)) {
                self.remove_pods(std::mem::take(&mut going)).await;
            }
            match request {
                Request::EnsurePod(pod, answer) => coming.push((pod, answer)),
                Request::RemovePod(link, answer) => going.push((link, answer)),
                Request::CheckPod(link, answer) => drop(answer.send(self.check_pod(link).await)),
                Request::Peers(answer) => drop(answer.send(self.peers().await)),
                Request::Halt(problem, answer) => {
                    self.halt(problem).await;
                    let _gone = answer.send(());
                }
                Request::Clear(answer) => drop(answer.send(self.clear().await)),
                Request::Dropped(answer) => drop(answer.send(self.dropped().await)),
            }
            left -= 1;
            next = if left > 0 { queue.try_recv().ok() } else { None };
        }
        self.ensure_pods(coming).await;
        self.remove_pods(going).await;
        self.status.pods = self.pods.len();
        self.publish();
    }

    async fn ensure_pods(&mut self, pods: Vec<(Pod, Answer)>) {
        if pods.is_empty() {
            return;
        }
        if self.is_halted {
            return refuse(pods, &EngineError::Halted);
        }
        for (pod, _) in &pods {
            self.pods.insert(pod.link, pod.clone());
        }
        let Some((settings, me, local)) = self.context() else { return refuse(pods, &EngineError::NoMembership) };
        let mut keys = BTreeSet::new();
        for (pod, _) in &pods {
            let objects = desired::pod(&settings, &me, &local, pod);
            keys.extend(objects.keys().copied());
            self.holdings.want(objects);
        }
        let done = self.reconcile_keys(&keys).await.unwrap_or(false);
        for (pod, answer) in pods {
            // One that fails must not fail the others: each is looked at by itself then.
            let problems = if done { Vec::new() } else { self.check_pod(pod.link).await };
            drop(answer.send(if problems.is_empty() { Ok(()) } else { Err(EngineError::Differs(problems)) }));
        }
    }

    async fn remove_pods(&mut self, pods: Vec<(LinkName, Answer)>) {
        if pods.is_empty() {
            return;
        }
        let gone: Vec<Pod> = pods.iter().filter_map(|(link, _)| self.pods.remove(link)).collect();
        let mut outcome = Ok(());
        if let Some((settings, me, local)) = self.context().filter(|_| !gone.is_empty()) {
            let objects = gone.iter().map(|pod| desired::pod(&settings, &me, &local, pod));
            let mut keys: BTreeSet<Key> = objects.flat_map(BTreeMap::into_keys).collect();
            self.holdings.forget(&keys);
            keys.retain(|key| !matches!(key, Key::Sysctl(_)));
            // The runtime most likely took the links away already, and with them all this: read instead of believing.
            outcome = self.reconcile_keys(&keys).await.map(|_| ()).map_err(EngineError::from);
        }
        for (_, answer) in pods {
            drop(answer.send(outcome.clone()));
        }
    }

    async fn check_pod(&mut self, link: LinkName) -> Vec<String> {
        let Some(pod) = self.pods.get(&link) else {
            return vec![format!("the agent programs nothing for {link}: add the pod again")];
        };
        let Some((settings, me, local)) = self.context() else {
            return vec![EngineError::NoMembership.to_string()];
        };
        let wanted = desired::pod(&settings, &me, &local, pod);
        let missing = pod.addresses.iter().filter(|address| !wanted.keys().any(|key| is_route_to(key, **address)));
        let mut problems: Vec<String> =
            missing.map(|address| format!("address {address} is in none of this node's pod CIDRs any more")).collect();
        let keys: BTreeSet<Key> = wanted.keys().copied().collect();
        match self.read_keys(&keys).await {
            Ok(observed) => problems.extend(differences(&observed, &wanted)),
            Err(error) => problems.push(error.to_string()),
        }
        problems
    }

    async fn dropped(&mut self) -> Dropped {
        let mut count = async |name| self.kernel.counter(name).await.unwrap_or_default();
        Dropped {
            tunnel_from_pods: count(CounterName::TunnelFromPod).await,
            tunnel_from_strangers: count(CounterName::TunnelFromStranger).await,
            tunnel_forged: count(CounterName::TunnelForged).await,
            forged_by_pods: count(CounterName::ForgedByPod).await,
            pods_to_gateway: count(CounterName::PodToGateway).await,
        }
    }
}

/// Nothing is done for these pods, and why.
fn refuse(pods: Vec<(Pod, Answer)>, why: &EngineError) {
    for (_, answer) in pods {
        drop(answer.send(Err(why.clone())));
    }
}

/// What a reading of a pod's objects lacks, as sentences.
fn differences(observed: &Observed, wanted: &Objects) -> Vec<String> {
    let differs = |key: &Key, value: &Value| observed.ours.get(key).is_none_or(|seen| !seen.is(value));
    let say = |key: &Key| {
        if observed.foreign.contains(key) {
            format!("{key}: its place is held by somebody else's")
        } else {
            format!("{key} is missing or altered on the host")
        }
    };
    wanted.iter().filter(|(key, value)| differs(key, value)).map(|(key, _)| say(key)).collect()
}

fn is_route_to(key: &Key, address: std::net::IpAddr) -> bool {
    matches!(key, Key::Route(to, _) if *to == ipnetwork::IpNetwork::from(address))
}
