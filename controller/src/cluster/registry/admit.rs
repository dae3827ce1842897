//! What a Node object makes of a member.
//!
//! Owns the rules: which life of a name it is, and which pod CIDRs it has. What a Node's spec says is never changed and
//! always respected, where it fits: another allocator's word counts more than our quarantine, but not more than what
//! another member has. Must never give a pod CIDR while it is open who allocates.

use weft_core::{
    alloc::AllocError,
    encap::Endpoint,
    membership::More,
    types::{Family, NodeName, PerFamily, PodCidr, UnixMs},
};

use super::{Changed, NEVER, Registry, overlaps};
use crate::{
    cluster::{Admitted, NodeSeen, Refusal},
    config::NodeCidrs,
    store::{NodeRecord, Quarantined, Write},
};

/// What became of a Node.
pub(in crate::cluster) struct Outcome {
    pub(in crate::cluster) changed: Changed,
    /// Pod CIDRs that it had and has no more.
    pub(in crate::cluster) left: Vec<PodCidr>,
    pub(in crate::cluster) answer: Result<Admitted, Refusal>,
    /// The life that began, where one did.
    pub(in crate::cluster) begun: Option<u64>,
}

impl Registry {
    /// All names that something is stored for which ends with their Node.
    pub(in crate::cluster) fn known(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes.keys().chain(self.held.values().filter(|owner| !self.nodes.contains_key(*owner)))
    }

    /// True where the name's Node was re-created.
    pub(in crate::cluster) fn is_another_life(&self, seen: &NodeSeen) -> bool {
        let uid = self.nodes.get(&seen.name).and_then(|record| record.node_uid.as_ref());
        uid.is_some_and(|uid| *uid != seen.uid)
    }

    /// The life of a Node, whose UID somebody names.
    pub(in crate::cluster) fn identify(&self, node: &NodeName, uid: Option<&str>) -> Result<u64, Refusal> {
        let Some(record) = self.nodes.get(node) else { return Err(Refusal::NodeUnseen { node: node.clone() }) };
        match (uid, record.node_uid.as_deref()) {
            (Some(uid), Some(current)) if uid != current => {
                let (uid, current) = (uid.to_owned(), current.to_owned());
                Err(Refusal::NodeReplaced { node: node.clone(), uid, current })
            }
            _ => Ok(record.incarnation),
        }
    }

    /// Takes a Node in as it is now.
    pub(in crate::cluster) fn admit(&mut self, seen: &NodeSeen, now: UnixMs) -> Outcome {
        let mut outcome =
            Outcome { changed: Changed::default(), left: Vec::new(), answer: Ok(Admitted::default()), begun: None };
        if self.is_another_life(seen) {
            (outcome.changed, outcome.left) = self.depart(&seen.name);
        }
        let before = self.nodes.get(&seen.name).cloned();
        let mut record = before.clone().unwrap_or_else(|| self.first_record(seen, now));
        record.node_uid = Some(seen.uid.clone());
        let problem = self.settle_cidrs(seen, &mut outcome);
        for family in Family::ALL {
            *record.pod_cidrs.get_mut(family) = self.allocator.owner_of(family, &seen.name);
        }
        self.held.retain(|_, owner| *owner != seen.name);
        outcome.answer = self.note(seen, problem, record.pod_cidrs);
        if before.as_ref() != Some(&record) {
            if before.is_none() {
                outcome.begun = Some(record.incarnation);
                outcome
                    .changed
                    .writes
                    .extend(self.lives.remove(&seen.name).map(|_| Write::RemoveLife(seen.name.clone())));
                self.admission.returned(&seen.name);
            }
            self.macs.insert(record.endpoint.mac());
            outcome.changed.writes.push(Write::Node(record.clone()));
            outcome.changed.touched.push(seen.name.clone());
            self.nodes.insert(seen.name.clone(), record);
        }
        outcome
    }

    /// A Node is gone: its membership ends, and whatever is held for it goes into quarantine.
    pub(in crate::cluster) fn depart(&mut self, name: &NodeName) -> (Changed, Vec<PodCidr>) {
        self.admission.forget(name);
        // When it ended does not count here: it is forgotten with its pod CIDRs.
        let (mut changed, mut left) = self.delete(name, None).unwrap_or_default();
        self.let_go(name, &PerFamily::default(), &mut changed, &mut left);
        self.held.retain(|_, owner| owner != name);
        (changed, left)
    }

    fn first_record(&self, seen: &NodeSeen, now: UnixMs) -> NodeRecord {
        // A creation time never falls, and two lives that began in one second are told apart by the count.
        let next = self.lives.get(&seen.name).map_or(0, |last| last.incarnation + 1);
        NodeRecord {
            name: seen.name.clone(),
            incarnation: next.max(seen.created_unix).max(1),
            pod_cidrs: PerFamily::default(),
            endpoint: Endpoint::of(self.free_mac(&seen.name)),
            more: More::default(),
            facts: None,
            joined: now,
            node_uid: None,
        }
    }

    /// Makes the allocator hold what the node is to have; tells what it cannot have.
    fn settle_cidrs(&mut self, seen: &NodeSeen, outcome: &mut Outcome) -> Option<Refusal> {
        if let Some(refusal) = self.check_addresses(seen) {
            return Some(refusal);
        }
        if !seen.pod_cidrs.is_empty() {
            return self.take_given(seen, outcome);
        }
        let name = &seen.name;
        if self.admission.allocates() != Some(NodeCidrs::Weft) {
            let has_some = Family::ALL.iter().any(|family| self.allocator.owner_of(*family, name).is_some());
            return (!has_some).then(|| self.awaited(name));
        }
        if self.nodes.get(name).is_some_and(|record| !record.pod_cidrs.is_empty()) {
            // Given before, and not yet written into the Node object. Labels that changed since change nothing.
            return None;
        }
        let rules = &self.rules;
        let serves = |pool: &_| rules.iter().any(|rule| rule.pool == *pool && rule.serves(&seen.labels));
        // A Node that was deleted by hand and registers again still has its pods.
        for family in Family::ALL {
            if let Some(cidr) = self.allocator.reclaim(family, name, &serves) {
                outcome.changed.writes.push(Write::RemoveQuarantine(cidr));
                outcome.left.retain(|left| *left != cidr);
            }
        }
        let allocated = self.allocator.allocate_all_from(name, &serves);
        let remedy = |error: AllocError| error.to_string().replace("weft node delete", "kubectl delete node");
        allocated.err().map(|error| Refusal::PoolsExhausted { node: name.clone(), detail: remedy(error) })
    }

    /// Why a Node has to wait for pod CIDRs that are not ours to give.
    fn awaited(&self, name: &NodeName) -> Refusal {
        let node = name.clone();
        match self.admission.misleading() {
            Some((other, cidr)) => {
                Refusal::AllocatorUnknown { node, other: other.clone(), cidr, pools: self.pool_names() }
            }
            None => Refusal::CidrsAwaited { node },
        }
    }

    fn pool_names(&self) -> String {
        self.pools.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Takes the pod CIDRs of a Node's spec. One that does not fit leaves what the node has.
    fn take_given(&mut self, seen: &NodeSeen, outcome: &mut Outcome) -> Option<Refusal> {
        let name = &seen.name;
        let misfit = seen.pod_cidrs.iter().find_map(|cidr| self.misfit(name, *cidr));
        if misfit.is_some() {
            return misfit;
        }
        self.let_go(name, &seen.pod_cidrs, &mut outcome.changed, &mut outcome.left);
        for cidr in seen.pod_cidrs.iter() {
            for quarantined in self.allocator.quarantined_in(cidr) {
                self.allocator.clear(&quarantined);
                outcome.changed.writes.push(Write::RemoveQuarantine(quarantined));
            }
            self.allocator.claim(*cidr, name).expect("nobody else has it, and the node has no other of its family");
        }
        None
    }

    fn misfit(&self, name: &NodeName, cidr: PodCidr) -> Option<Refusal> {
        let node = name.clone();
        if self.allocator.owner_of(cidr.family(), name) == Some(cidr) {
            return None;
        }
        if !self.pools.iter().any(|pool| pool.covers(&cidr)) {
            return Some(Refusal::CidrOutsidePools { node, cidr, pools: self.pool_names() });
        }
        let (holder, held) = self.allocator.holder_in(&cidr, name)?;
        Some(Refusal::CidrTaken { node, cidr, holder, held })
    }

    /// Puts into quarantine what a node has, or is held for it, and is not to keep.
    fn let_go(
        &mut self,
        name: &NodeName,
        keep: &PerFamily<Option<PodCidr>>,
        changed: &mut Changed,
        left: &mut Vec<PodCidr>,
    ) {
        for family in Family::ALL {
            let Some(has) = self.allocator.owner_of(family, name) else { continue };
            if *keep.get(family) != Some(has) {
                self.allocator.release(has, NEVER);
                changed.writes.push(Write::Quarantine(Quarantined { cidr: has, owner: name.clone() }));
                left.push(has);
            }
        }
    }

    fn check_addresses(&self, seen: &NodeSeen) -> Option<Refusal> {
        let node = || seen.name.clone();
        seen.addresses.iter().find_map(|address| {
            let pool = *self.pools.iter().find(|pool| overlaps(pool, (*address).into()))?;
            Some(Refusal::AddressInPool { underlay: (*address).into(), node: node(), pool })
        })
    }

    fn note(
        &mut self,
        seen: &NodeSeen,
        problem: Option<Refusal>,
        pod_cidrs: PerFamily<Option<PodCidr>>,
    ) -> Result<Admitted, Refusal> {
        let is_ours_to_write = self.admission.allocates() == Some(NodeCidrs::Weft) && seen.pod_cidrs.is_empty();
        self.admission.settled(seen, problem.clone());
        problem.map_or(Ok(Admitted { pod_cidrs, is_ours_to_write }), Err)
    }
}

#[cfg(test)]
mod tests;
