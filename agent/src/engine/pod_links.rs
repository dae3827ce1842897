//! Pods' links come and go all the time: what changes on one of them concerns that pod and nothing else.
//!
//! Owns the look at a few pods, which costs the same with ten peers and with ten thousand. Must never judge a link that no
//! attached pod has: an ADD or a DEL is at it, and says so when it is done.

use std::collections::BTreeSet;

use tokio::time::Instant;
use tracing::debug;
use weft_core::{
    desired,
    diff::{Op, diff_keys},
    kernel::{Key, Route, Value, Via},
    types::LinkName,
};

use super::{Engine, FIGHT_PAUSE, SETTLE};
use crate::kernel::{Kernel, Scope};

impl<K: Kernel> Engine<K> {
    /// The attached pod that an object belongs to.
    pub(super) fn pod_of(&self, key: &Key) -> Option<LinkName> {
        let link = match (key, self.desired.get(key)) {
            (Key::Neighbour(link, _), _) => Some(*link),
            (Key::Sysctl(sysctl), _) => sysctl.link(),
            (Key::Route(..), Some(Value::Route(Route { via: Via::Link(link), .. }))) => Some(*link),
            _ => None,
        };
        link.filter(|link| self.pods.contains_key(link))
    }

    /// Has a pod looked at soon; all that change until then are looked at together.
    pub(super) fn pod_changed(&mut self, link: LinkName) {
        if !self.pods.contains_key(&link) {
            return;
        }
        if self.changed_pods.is_empty() {
            let pause = if self.status.is_fought_over() { FIGHT_PAUSE } else { SETTLE };
            self.next_pod_look = Instant::now() + pause;
        }
        self.changed_pods.insert(link);
    }

    /// Looks at the pods whose links changed, and puts right what differs. Where that fails, everything is looked at.
    pub(super) async fn look_at_pods(&mut self) {
        let links = std::mem::take(&mut self.changed_pods);
        let pods: Vec<_> = links.iter().filter_map(|link| self.pods.get(link).cloned()).collect();
        let Some((settings, me, local)) = self.context().filter(|_| !pods.is_empty()) else { return };
        let objects: Vec<_> = pods.iter().map(|pod| (pod.link, desired::pod(&settings, &me, &local, pod))).collect();
        let keys: BTreeSet<Key> = objects.iter().flat_map(|(_, objects)| objects.keys().copied()).collect();
        let listed: Vec<Key> = keys.iter().copied().collect();
        let Ok(observed) = self.kernel.read(Scope::Keys(&listed)).await else { return self.distrust() };
        for (link, objects) in objects {
            // Without its link there is nothing to program until the runtime deletes it or it comes back.
            if observed.links.contains(&link) {
                self.want(objects);
            } else {
                objects.keys().for_each(|key| drop(self.desired.remove(key)));
            }
        }
        let held = |key: &Key| self.desired.contains_key(key);
        let plan = diff_keys(&observed, &self.desired, &keys, &held, local.device);
        let Some(plan) = plan.filter(|plan| !plan.is_empty()) else { return };
        debug!(pods = pods.len(), operations = plan.ops.len(), "putting pods right");
        self.note_repair(plan.ops.iter().map(Op::key));
        if !self.settle(observed, &keys, &local).await {
            self.distrust();
        }
        self.publish();
    }
}
