//! Pods' links come and go all the time: what changes on one of them concerns that pod and nothing else.
//!
//! Owns the look at a few pods, which costs the same with ten peers and with ten thousand. Must never judge a link that no
//! attached pod has: an ADD or a DEL is at it, and says so when it is done.

use std::collections::BTreeSet;

use tracing::debug;
use weft_core::{
    desired,
    diff::Op,
    kernel::{Key, Route, Value, Via},
    types::LinkName,
};

use super::Engine;
use crate::kernel::Kernel;

impl<K: Kernel> Engine<K> {
    /// The attached pod that an object belongs to.
    pub(super) fn pod_of(&self, key: &Key) -> Option<LinkName> {
        let link = match (key, self.holdings.get(key)) {
            (Key::Neighbour(link, _), _) => Some(*link),
            (Key::Sysctl(sysctl), _) => sysctl.link(),
            (Key::Route(..), Some(Value::Route(Route { via: Via::Link(link), .. }))) => Some(*link),
            _ => None,
        };
        link.filter(|link| self.pods.contains_key(link))
    }

    /// Has a pod looked at soon; all that change until then are looked at together.
    pub(super) fn pod_changed(&mut self, link: LinkName) {
        if self.pods.contains_key(&link) {
            self.schedule.pod_changed(link, self.status.is_fought_over());
        }
    }

    /// Looks at the pods whose links changed, and puts right what differs. Where that fails, everything is looked at.
    pub(super) async fn look_at_pods(&mut self) {
        let links = self.schedule.take_pods();
        let pods: Vec<_> = links.iter().filter_map(|link| self.pods.get(link).cloned()).collect();
        let Some((settings, me, local)) = self.context().filter(|_| !pods.is_empty()) else { return };
        let objects: Vec<_> = pods.iter().map(|pod| (pod.link, desired::pod(&settings, &me, &local, pod))).collect();
        let keys: BTreeSet<Key> = objects.iter().flat_map(|(_, objects)| objects.keys().copied()).collect();
        let Ok(observed) = self.read_keys(&keys).await else { return self.distrust() };
        for (link, objects) in objects {
            // Without its link there is nothing to program until the runtime deletes it or it comes back.
            if observed.links.contains(&link) {
                self.holdings.want(objects);
            } else {
                self.holdings.forget(objects.keys());
            }
        }
        let plan = self.holdings.plan_keys(&observed, &keys);
        let Some(plan) = plan.filter(|plan| !plan.is_empty()) else { return };
        debug!(pods = pods.len(), operations = plan.ops.len(), "putting pods right");
        self.note_repair(plan.ops.iter().map(Op::key));
        if !self.settle(observed, &keys).await {
            self.distrust();
        }
        self.publish();
    }
}
