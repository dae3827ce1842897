//! Requests: the host's side of pods, and questions.

use std::collections::BTreeSet;

use weft_core::{
    desired::{self, Pod},
    diff::diff_keys,
    kernel::{Key, Observed},
    nft::CounterName,
    types::LinkName,
};

use super::{Dropped, Engine, Request};
use crate::kernel::{Kernel, Scope};

impl<K: Kernel> Engine<K> {
    /// Carries out a request. Whoever asked may be gone by now: that changes nothing.
    pub(super) async fn request(&mut self, request: Request) {
        match request {
            Request::EnsurePod(pod, answer) => drop(answer.send(self.ensure_pod(pod).await)),
            Request::RemovePod(link, answer) => drop(answer.send(self.remove_pod(link).await)),
            Request::CheckPod(link, answer) => drop(answer.send(self.check_pod(link).await)),
            Request::Peers(answer) => drop(answer.send(self.peers().await)),
            Request::Dropped(answer) => drop(answer.send(self.dropped().await)),
        }
        self.status.pods = self.pods.len();
        self.publish();
    }

    async fn ensure_pod(&mut self, pod: Pod) -> Result<(), String> {
        let Some((settings, me, local)) = self.context() else {
            self.pods.insert(pod.link, pod);
            return Err("the node has no membership yet; try again".to_owned());
        };
        let objects = desired::pod(&settings, &me, &local, &pod);
        let keys: BTreeSet<Key> = objects.keys().copied().collect();
        let link = pod.link;
        self.pods.insert(link, pod);
        self.desired.extend(objects);
        let listed: Vec<Key> = keys.iter().copied().collect();
        let observed = self.kernel.read(Scope::Keys(&listed)).await.map_err(|error| error.to_string())?;
        if self.settle(observed, &keys, &local).await {
            return Ok(());
        }
        self.distrust();
        let problems = self.check_pod(link).await;
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    async fn remove_pod(&mut self, link: LinkName) -> Result<(), String> {
        let Some(pod) = self.pods.remove(&link) else { return Ok(()) };
        let Some((settings, me, local)) = self.context() else { return Ok(()) };
        let mut keys: BTreeSet<Key> = desired::pod(&settings, &me, &local, &pod).into_keys().collect();
        for key in &keys {
            self.desired.remove(key);
        }
        keys.retain(|key| !matches!(key, Key::Sysctl(_)));
        // The runtime most likely took the link away already, and with it all this: read instead of believing.
        let listed: Vec<Key> = keys.iter().copied().collect();
        let observed = self.kernel.read(Scope::Keys(&listed)).await.map_err(|error| error.to_string())?;
        if !self.settle(observed, &keys, &local).await {
            self.distrust();
        }
        Ok(())
    }

    async fn check_pod(&mut self, link: LinkName) -> Vec<String> {
        let Some(pod) = self.pods.get(&link) else {
            return vec![format!("the agent programs nothing for {link}: add the pod again")];
        };
        let Some((settings, me, local)) = self.context() else {
            return vec!["the node has no membership yet".to_owned()];
        };
        let wanted = desired::pod(&settings, &me, &local, pod);
        let missing = pod.addresses.iter().filter(|address| !wanted.keys().any(|key| is_route_to(key, **address)));
        let mut problems: Vec<String> =
            missing.map(|address| format!("address {address} is in none of this node's pod CIDRs any more")).collect();
        let keys: BTreeSet<Key> = wanted.keys().copied().collect();
        let listed: Vec<Key> = keys.iter().copied().collect();
        let observed = match self.kernel.read(Scope::Keys(&listed)).await {
            Ok(observed) => observed,
            Err(error) => {
                problems.push(error.to_string());
                Observed::default()
            }
        };
        if let Some(plan) = diff_keys(&observed, &wanted, &keys, &|_| false, local.device) {
            problems.extend(plan.ops.iter().map(|op| format!("{} is missing or altered on the host", op.key())));
            problems.extend(plan.conflicts.iter().map(|key| format!("{key}: its place is held by somebody else's")));
        }
        problems
    }

    async fn dropped(&mut self) -> Dropped {
        let mut count = async |name| self.kernel.counter(name).await.unwrap_or_default();
        Dropped {
            tunnel_from_pods: count(CounterName::TunnelFromPod).await,
            tunnel_from_strangers: count(CounterName::TunnelFromStranger).await,
            forged_by_pods: count(CounterName::ForgedByPod).await,
            pods_to_gateway: count(CounterName::PodToGateway).await,
        }
    }
}

fn is_route_to(key: &Key, address: std::net::IpAddr) -> bool {
    matches!(key, Key::Route(to, _) if *to == ipnetwork::IpNetwork::from(address))
}
