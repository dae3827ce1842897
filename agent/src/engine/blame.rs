//! Whose problem a deviation is: the node's, or one peer's.
//!
//! Owns that what belongs to a peer is a problem of that pair alone. Must never let it keep pods out, or the node from being
//! ready: one member that says something wrong of itself would stop all others.

use std::collections::{BTreeMap, BTreeSet};

use weft_core::{
    desired::{self, Pod},
    kernel::Key,
    standing::{PeerProblem, Reason},
    types::NodeName,
};

use super::{Engine, NAMED_PEERS};
use crate::kernel::Kernel;

impl<K: Kernel> Engine<K> {
    /// Deviations of the node's own objects and of its pods', and what is left of objects that nobody wants any more: as long
    /// as that is there, packets may go where they should not.
    pub(super) fn own_deviations(&self) -> BTreeMap<Key, String> {
        let (deviations, desired) = (self.holdings.deviations(), self.holdings.desired());
        if deviations.is_empty() {
            return BTreeMap::new();
        }
        let own = self.own_keys();
        let is_own = |key: &Key| own.contains(key) || !desired.contains_key(key);
        deviations.iter().filter(|(key, _)| is_own(key)).map(|(key, why)| (*key, why.clone())).collect()
    }

    fn own_keys(&self) -> BTreeSet<Key> {
        let Some((settings, me, local)) = self.context() else {
            return self.holdings.desired().keys().copied().collect();
        };
        let of_pod = |pod: &Pod| desired::pod(&settings, &me, &local, pod).into_keys();
        let node = desired::node(&settings, &me, &local, self.view.prefixes()).into_keys();
        node.chain(self.pods.values().flat_map(of_pod)).collect()
    }

    /// The peers whose objects deviate: a few of them in full, and how many there are.
    pub(super) fn peers_to_blame(&self) -> (Vec<PeerProblem>, u32) {
        let (mut problems, mut count) = (Vec::new(), 0);
        let deviations = self.holdings.deviations();
        let Some((settings, me, local)) = self.context().filter(|_| !deviations.is_empty()) else {
            return (problems, count);
        };
        let own = self.own_deviations();
        for member in self.view.members().filter(|member| member.name != me.name) {
            let keys = desired::peer_keys(&settings, &local, &member, &self.ids);
            let first = keys.iter().find_map(|key| deviations.get_key_value(key).filter(|_| !own.contains_key(key)));
            let Some((key, why)) = first else { continue };
            count += 1;
            if problems.len() < NAMED_PEERS {
                problems.push(self.of_peer(&member.name, key, why));
            }
        }
        (problems, count)
    }

    fn of_peer(&self, node: &NodeName, key: &Key, why: &str) -> PeerProblem {
        PeerProblem {
            node: node.clone(),
            reason: Reason::KernelDiffers,
            message: format!("{key}: {why}"),
            since: self.since.into(),
        }
    }
}
