//! Which node has which pod CIDR.
//!
//! Owns what is taken, by whom, and what is in quarantine: a departed node's CIDR is handed out again only after
//! everybody who may still route to it has let it go, and that is for the caller to find out. Must never hand out what
//! overlaps anything taken. Sparse: the cost follows the nodes, not the size of the pools.

mod error;
mod pool;
mod rule;
mod selector;
mod taken;

use std::collections::BTreeMap;

pub use error::{AllocError, ClaimError};
pub use pool::{Pool, PoolError};
pub use rule::PoolRule;
pub use selector::{Selector, SelectorError};

use crate::types::{Family, NodeName, PerFamily, PodCidr, Revision};
use taken::{State, Taken};

/// Hands out pod CIDRs of the pools.
#[derive(Debug, Clone)]
pub struct Allocator {
    pools: Vec<Cut>,
    taken: Taken,
    owners: BTreeMap<(NodeName, Family), PodCidr>,
    /// Who had a CIDR that was let go by all and that nobody has had since.
    had: BTreeMap<PodCidr, NodeName>,
}

/// A pool and where the search goes on: what was just freed is not the next to be handed out.
#[derive(Debug, Clone)]
struct Cut {
    pool: Pool,
    next: u128,
}

/// How full a pool is, in pod CIDRs; figures beyond 64 bits are shown as the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The pool.
    pub pool: Pool,
    /// In use by nodes.
    pub used: u64,
    /// Of departed nodes, not yet let go by everybody.
    pub quarantined: u64,
    /// Altogether.
    pub total: u64,
}

impl Allocator {
    /// An allocator in which nothing is taken. Pools are used in the order given; none may overlap another.
    pub fn new(pools: Vec<Pool>) -> Result<Self, PoolError> {
        for (at, pool) in pools.iter().enumerate() {
            if let Some(other) = pools[..at].iter().find(|other| other.cidr().overlaps(&pool.cidr())) {
                return Err(PoolError::Overlap(*other, *pool));
            }
        }
        let pools = pools.into_iter().map(|pool| Cut { pool, next: 0 }).collect();
        Ok(Self { pools, taken: Taken::default(), owners: BTreeMap::new(), had: BTreeMap::new() })
    }

    /// The pools, in order.
    pub fn pools(&self) -> impl Iterator<Item = Pool> {
        self.pools.iter().map(|cut| cut.pool)
    }

    /// Takes note of a CIDR that a node has already, from a pool of today or not. Repeating it is a success.
    pub fn claim(&mut self, cidr: PodCidr, owner: &NodeName) -> Result<(), ClaimError> {
        match self.owner_of(cidr.family(), owner) {
            Some(held) if held == cidr => return Ok(()),
            Some(held) => return Err(ClaimError::Another { owner: owner.clone(), cidr, held }),
            None => {}
        }
        self.check_free(cidr, owner)?;
        self.take(cidr, owner);
        self.pass(&cidr);
        Ok(())
    }

    /// A CIDR for a node, or the one it has already.
    pub fn allocate(&mut self, family: Family, owner: &NodeName) -> Result<PodCidr, AllocError> {
        self.allocate_from(family, owner, &|_| true)
    }

    /// The same from the pools that `serves` is true of.
    pub fn allocate_from(
        &mut self,
        family: Family,
        owner: &NodeName,
        serves: &dyn Fn(&Pool) -> bool,
    ) -> Result<PodCidr, AllocError> {
        if let Some(held) = self.owner_of(family, owner) {
            return Ok(held);
        }
        let cidr = self.find_free(family, serves).ok_or_else(|| self.exhausted(family, serves))?;
        self.take(cidr, owner);
        Ok(cidr)
    }

    /// A CIDR of every family that there are pools of, or none at all.
    pub fn allocate_all(&mut self, owner: &NodeName) -> Result<PerFamily<Option<PodCidr>>, AllocError> {
        self.allocate_all_from(owner, &|_| true)
    }

    /// A CIDR of every family that there are pools of among those that `serves` is true of, or none at all. Fails where
    /// it is true of none.
    pub fn allocate_all_from(
        &mut self,
        owner: &NodeName,
        serves: &dyn Fn(&Pool) -> bool,
    ) -> Result<PerFamily<Option<PodCidr>>, AllocError> {
        if !self.pools.is_empty() && !self.pools.iter().any(|cut| serves(&cut.pool)) {
            return Err(AllocError::NotServed(self.pools().collect()));
        }
        let mut cidrs = PerFamily::default();
        let mut fresh = Vec::new();
        for family in Family::ALL {
            if !self.has_pool(family, serves) {
                continue;
            }
            let held = self.owner_of(family, owner);
            match self.allocate_from(family, owner, serves) {
                Ok(cidr) => {
                    fresh.extend(held.is_none().then_some(cidr));
                    *cidrs.get_mut(family) = Some(cidr);
                }
                Err(error) => {
                    fresh.iter().for_each(|cidr| self.abandon(cidr));
                    return Err(error);
                }
            }
        }
        Ok(cidrs)
    }

    /// Frees a CIDR that nobody was told of, as the store did not take it.
    pub fn abandon(&mut self, cidr: &PodCidr) {
        if let Some((owner, None)) = self.taken.get(cidr).map(State::parts) {
            self.owners.remove(&(owner, cidr.family()));
            self.free(cidr);
        }
    }

    /// Puts the CIDR of a node that departed at `revision` into quarantine; false where nobody has it.
    pub fn release(&mut self, cidr: PodCidr, revision: Revision) -> bool {
        let Some((owner, None)) = self.taken.get(&cidr).map(State::parts) else { return false };
        self.owners.remove(&(owner.clone(), cidr.family()));
        self.taken.insert(cidr, State::Quarantined { owner, revision });
        true
    }

    /// Puts a CIDR that is free into quarantine: one that a store remembers as a departed node's.
    pub fn quarantine(&mut self, cidr: PodCidr, owner: &NodeName, revision: Revision) -> Result<(), ClaimError> {
        self.check_free(cidr, owner)?;
        self.taken.insert(cidr, State::Quarantined { owner: owner.clone(), revision });
        Ok(())
    }

    /// Ends the quarantine of one CIDR; false where it is in none.
    pub fn clear(&mut self, cidr: &PodCidr) -> bool {
        let quarantined = matches!(self.taken.get(cidr), Some(State::Quarantined { .. }));
        if quarantined {
            self.let_go(cidr);
        }
        quarantined
    }

    /// Ends the quarantine of all CIDRs released at `revision` or before: everybody has acknowledged it. Tells which.
    pub fn clear_up_to(&mut self, revision: Revision) -> Vec<PodCidr> {
        let due: Vec<_> = self.quarantined().filter(|(_, since)| *since <= revision).map(|(cidr, _)| cidr).collect();
        due.iter().for_each(|cidr| self.let_go(cidr));
        due
    }

    /// What is in quarantine, since which revision.
    pub fn quarantined(&self) -> impl Iterator<Item = (PodCidr, Revision)> {
        self.taken.iter().filter_map(|(cidr, state)| match state {
            State::Quarantined { revision, .. } => Some((cidr, *revision)),
            State::Used { .. } => None,
        })
    }

    /// Who had the CIDRs that are in quarantine.
    pub fn departed(&self) -> impl Iterator<Item = (PodCidr, &NodeName)> {
        self.taken.iter().filter_map(|(cidr, state)| match state {
            State::Quarantined { owner, .. } => Some((cidr, owner)),
            State::Used { .. } => None,
        })
    }

    /// Gives a node back what it had when it departed, where nobody else has had that since and it is in a pool that `serves` is
    /// true of: its pods may run on as if nothing had happened. Free CIDRs are used in turn, so that this lasts a while.
    pub fn reclaim(&mut self, family: Family, owner: &NodeName, serves: &dyn Fn(&Pool) -> bool) -> Option<PodCidr> {
        if self.owner_of(family, owner).is_some() {
            return None;
        }
        let is_served = |cidr: &PodCidr| self.pools().any(|pool| serves(&pool) && pool.cidr().covers(cidr));
        let freed = self.had.iter().filter(|(cidr, _)| self.check_free(**cidr, owner).is_ok());
        let freed = freed.map(|(cidr, name)| (*cidr, name));
        let had = self.departed().chain(freed).filter(|(cidr, name)| *name == owner && cidr.family() == family);
        let cidr = had.map(|(cidr, _)| cidr).find(is_served)?;
        self.take(cidr, owner);
        Some(cidr)
    }

    /// Everything in quarantine that shares an address with `cidr`.
    pub fn quarantined_in(&self, cidr: &PodCidr) -> Vec<PodCidr> {
        let is_quarantined = |state: &State| matches!(state, State::Quarantined { .. });
        self.taken.within(cidr).filter(|(_, state)| is_quarantined(state)).map(|(other, _)| other).collect()
    }

    /// A node that has a CIDR which shares an address with `cidr`, and that CIDR.
    pub fn holder_in(&self, cidr: &PodCidr, but: &NodeName) -> Option<(NodeName, PodCidr)> {
        self.taken.within(cidr).find_map(|(held, state)| match state {
            State::Used { owner } if owner != but => Some((owner.clone(), held)),
            _ => None,
        })
    }

    /// The CIDR that a node has.
    pub fn owner_of(&self, family: Family, owner: &NodeName) -> Option<PodCidr> {
        self.owners.get(&(owner.clone(), family)).copied()
    }

    /// How full each pool is, in their order.
    pub fn usage(&self) -> Vec<Usage> {
        self.pools.iter().map(|cut| cut.pool.usage(&self.taken)).collect()
    }

    /// Looks through the pools in order, in each from where the last search ended.
    fn find_free(&mut self, family: Family, serves: &dyn Fn(&Pool) -> bool) -> Option<PodCidr> {
        for cut in self.pools.iter_mut().filter(|cut| cut.pool.family() == family && serves(&cut.pool)) {
            if let Some(cidr) = cut.pool.free(cut.next, &self.taken) {
                cut.next = cut.pool.index_behind(&cidr);
                return Some(cidr);
            }
        }
        None
    }

    fn has_pool(&self, family: Family, serves: &dyn Fn(&Pool) -> bool) -> bool {
        self.pools.iter().any(|cut| cut.pool.family() == family && serves(&cut.pool))
    }

    fn check_free(&self, cidr: PodCidr, owner: &NodeName) -> Result<(), ClaimError> {
        let Some((other, state)) = self.taken.overlapping(&cidr) else { return Ok(()) };
        let owner = owner.clone();
        Err(match state.clone() {
            State::Used { owner: holder } => ClaimError::Taken { owner, cidr, holder, held: other },
            State::Quarantined { owner: holder, revision } => {
                ClaimError::Quarantined { owner, cidr, holder, held: other, revision }
            }
        })
    }

    /// Ends a quarantine, and remembers whose it was.
    fn let_go(&mut self, cidr: &PodCidr) {
        if let Some(State::Quarantined { owner, .. }) = self.taken.get(cidr) {
            self.had.insert(*cidr, owner.clone());
        }
        self.free(cidr);
    }

    fn take(&mut self, cidr: PodCidr, owner: &NodeName) {
        self.had.retain(|had, _| !had.overlaps(&cidr));
        self.taken.insert(cidr, State::Used { owner: owner.clone() });
        self.owners.insert((owner.clone(), cidr.family()), cidr);
    }

    fn free(&mut self, cidr: &PodCidr) {
        self.taken.remove(cidr);
        self.pass(cidr);
    }

    /// The search goes on behind this CIDR, if it has not passed it.
    fn pass(&mut self, cidr: &PodCidr) {
        for cut in self.pools.iter_mut().filter(|cut| cut.pool.cidr().covers(cidr)) {
            cut.next = cut.next.max(cut.pool.index_behind(cidr));
        }
    }

    fn exhausted(&self, family: Family, serves: &dyn Fn(&Pool) -> bool) -> AllocError {
        let is_asked = |usage: &Usage| usage.pool.family() == family && serves(&usage.pool);
        let pools: Vec<_> = self.usage().into_iter().filter(is_asked).collect();
        if pools.is_empty() { AllocError::NoPool(family) } else { AllocError::Exhausted { family, pools } }
    }
}
