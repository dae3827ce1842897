//! An agent's side of the membership.
//!
//! Owns the last complete view and the revision it stands for. Holding a revision means holding all that happened up to
//! it, so what a delta repeats is known by its sequence, and what a delta would leave out is refused. Must never become
//! older or emptier because of what a confused controller says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{Change, Delta, Digest, Digests, Member, More, Prefixes, Snapshot, addresses::Addresses, claims::Claims};
use crate::{
    settings::Settings,
    types::{Family, NodeName, PodCidr, Revision},
};

/// The membership as an agent holds it.
#[derive(Debug, Clone, Default)]
pub struct View {
    revision: Revision,
    digests: Digests,
    settings: Option<Arc<Settings>>,
    /// As announced; two of them may claim one CIDR.
    members: BTreeMap<NodeName, Arc<Member>>,
    claims: Claims,
    addresses: Addresses,
    prefixes: Prefixes,
}

/// Something that a delta changed, with the values that count before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// A member joined, changed or departed, or lost or won a CIDR by what another did.
    Member {
        /// Its name.
        name: NodeName,
        /// Before; none where it was no member.
        old: Option<Arc<Member>>,
        /// Now; none where it is no member any more.
        new: Option<Arc<Member>>,
    },
    /// The settings changed, and so may every object of every peer.
    Settings {
        /// Before.
        old: Arc<Settings>,
    },
    /// A member has the first or had the last pod CIDR of a prefix length, and so every node's rules change.
    Prefixes,
}

/// Why an announcement was refused. The remedy is the same for all: ask for a snapshot by connecting without a revision,
/// unless the announcement is merely late.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// A delta, and nothing it could be applied to.
    #[error("a delta up to revision {0} came before any snapshot: ask for a snapshot")]
    NoSnapshot(Revision),
    /// A delta that starts after what is held.
    #[error("a delta starts at revision {from}, but only {held} is held: ask for what is between, or for a snapshot")]
    Gap {
        /// What is held.
        held: Revision,
        /// Where the delta starts.
        from: Revision,
    },
    /// A delta of a later epoch, or one across epochs.
    #[error("a delta from revision {from} to {to} does not continue epoch {held}: ask for a snapshot")]
    OtherEpoch {
        /// The epoch held.
        held: u64,
        /// Where the delta starts.
        from: Revision,
        /// Where it ends.
        to: Revision,
    },
    /// Something from before what is held.
    #[error(
        "revision {offered} is older than {held}, which is held: another controller leads by now, or has changed more"
    )]
    Older {
        /// What is held.
        held: Revision,
        /// What was offered.
        offered: Revision,
    },
    /// The leader found a digest right that is not held any more: a change was applied since it was told.
    #[error("revision {offered} was found to be what was held before {held} was: tell what is held now")]
    Overtaken {
        /// What is held.
        held: Revision,
        /// What was offered.
        offered: Revision,
    },
    /// A snapshot without members, while some are held.
    #[error("the snapshot at revision {offered} has no members while {held} are held: a receiver is always a member")]
    Empty {
        /// What was offered.
        offered: Revision,
        /// How many members are held.
        held: usize,
    },
    /// A snapshot that names a member twice.
    #[error("the snapshot names member {0} twice: the controller is faulty")]
    Duplicate(NodeName),
}

impl View {
    /// A view of nothing at revision 0.0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The revision held.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The digests of what is held, zero where nothing is.
    pub const fn digests(&self) -> Digests {
        self.digests
    }

    /// The cluster's settings; none before the first snapshot.
    pub const fn settings(&self) -> Option<&Arc<Settings>> {
        self.settings.as_ref()
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True where there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member as it counts: without a CIDR that a newer claim has.
    pub fn member(&self, name: &NodeName) -> Option<Arc<Member>> {
        self.members.get(name).map(|member| self.claims.effective(member))
    }

    /// All members by name, ascending, as they count: no two have the same CIDR.
    pub fn members(&self) -> impl Iterator<Item = Arc<Member>> {
        self.members.values().map(|member| self.claims.effective(member))
    }

    /// True if a member other than `me` announces the underlay address.
    pub fn is_of_a_peer(&self, address: IpAddr, me: &Member) -> bool {
        let own = me.underlay.iter().any(|underlay| underlay.address() == address);
        self.addresses.count(address) > usize::from(own)
    }

    /// The prefix lengths of the members' pod CIDRs.
    pub const fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// What is held, as it was announced, to be kept on disk; none before the first snapshot.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let settings = Arc::clone(self.settings.as_ref()?);
        Some(Snapshot { revision: self.revision, settings, members: self.members.values().cloned().collect() })
    }

    /// Replaces everything. What two members claim stays with whom it was, goes to a claim that is new, and among claims
    /// of unknown age to the last by name, so that agents agree.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) -> Result<(), ViewError> {
        let offered = snapshot.revision;
        if self.settings.is_some() && offered < self.revision {
            return Err(ViewError::Older { held: self.revision, offered });
        }
        if snapshot.members.is_empty() && !self.members.is_empty() {
            return Err(ViewError::Empty { offered, held: self.members.len() });
        }
        let digests = snapshot.digests();
        let mut members = BTreeMap::new();
        for member in snapshot.members {
            if let Some(twice) = members.insert(member.name.clone(), member) {
                return Err(ViewError::Duplicate(twice.name.clone()));
            }
        }
        self.claims = self.claims_of(&members);
        self.addresses = Addresses::of(members.values().map(Arc::as_ref));
        self.prefixes = Prefixes::of(members.values().map(Arc::as_ref));
        self.members = members;
        self.settings = Some(snapshot.settings);
        self.digests = digests;
        self.revision = offered;
        Ok(())
    }

    /// Applies what changed after a revision, and says what that is. What is known already changes nothing.
    pub fn apply_delta(&mut self, delta: &Delta) -> Result<Vec<Touched>, ViewError> {
        let held = self.check(delta)?;
        let fresh = || delta.changes.iter().filter(|(sequence, _)| *sequence > held.sequence).map(|(_, change)| change);
        let (old_settings, old_prefixes) = (self.settings.clone(), self.prefixes.clone());
        let before: BTreeMap<_, _> =
            self.concerned(fresh()).into_iter().map(|name| (name.clone(), self.member(&name))).collect();
        for change in fresh() {
            match change {
                Change::Upsert(member) => self.upsert(member),
                Change::Departed(name) => self.remove(name),
                Change::Settings(settings) => self.set_settings(settings),
            }
        }
        self.revision = held.max(delta.to);
        let settings = old_settings.filter(|old| Some(old) != self.settings.as_ref());
        let settings = settings.map(|old| Touched::Settings { old });
        let members = before.into_iter().filter_map(|(name, old)| {
            let new = self.member(&name);
            (old != new).then_some(Touched::Member { name, old, new })
        });
        let prefixes = (!old_prefixes.iter().eq(self.prefixes.iter())).then_some(Touched::Prefixes);
        Ok(settings.into_iter().chain(prefixes).chain(members).collect())
    }

    /// The leader found digest `found` right: what has it is `revision`. Between telling the digest and hearing of it
    /// changes of an earlier stream may have been applied, and what is held then is something else.
    pub fn adopt(&mut self, revision: Revision, found: Digests) -> Result<(), ViewError> {
        if self.settings.is_none() {
            return Err(ViewError::NoSnapshot(revision));
        }
        if revision < self.revision {
            return Err(ViewError::Older { held: self.revision, offered: revision });
        }
        if found != self.digests {
            return Err(ViewError::Overtaken { held: self.revision, offered: revision });
        }
        self.revision = revision;
        Ok(())
    }

    /// The leader knows of nothing beyond what version 0.1 does, so there is nothing more; true where there was.
    pub fn forget_more(&mut self) -> bool {
        if self.digests.more == Digest::default() {
            return false;
        }
        for member in self.members.values_mut().filter(|member| !member.more.is_empty()) {
            Arc::make_mut(member).more = More::default();
        }
        if let Some(settings) = &mut self.settings {
            Arc::make_mut(settings).more = More::default();
        }
        self.digests.more = Digest::default();
        true
    }

    fn check(&self, delta: &Delta) -> Result<Revision, ViewError> {
        let held = self.revision;
        if self.settings.is_none() {
            return Err(ViewError::NoSnapshot(delta.to));
        }
        if delta.to.epoch < held.epoch {
            return Err(ViewError::Older { held, offered: delta.to });
        }
        if delta.to.epoch != held.epoch || delta.from.epoch != held.epoch {
            return Err(ViewError::OtherEpoch { held: held.epoch, from: delta.from, to: delta.to });
        }
        if delta.from.sequence > held.sequence {
            return Err(ViewError::Gap { held, from: delta.from });
        }
        Ok(held)
    }

    /// Everybody whose effective value the changes may touch.
    fn concerned<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> BTreeSet<NodeName> {
        let mut names = BTreeSet::new();
        for change in changes {
            let (name, cidrs) = match change {
                Change::Upsert(member) => (&member.name, member.pod_cidrs),
                Change::Departed(name) => (name, Default::default()),
                Change::Settings(_) => continue,
            };
            let old = self.members.get(name).map(|member| member.pod_cidrs).unwrap_or_default();
            for cidr in cidrs.iter().chain(old.iter()) {
                names.extend(self.claims.claimants(*cidr).cloned());
            }
            names.insert(name.clone());
        }
        names
    }

    fn upsert(&mut self, member: &Arc<Member>) {
        let old = self.members.insert(member.name.clone(), Arc::clone(member));
        self.digests.add(member);
        self.addresses.add(member);
        self.prefixes.add(member);
        if let Some(old) = &old {
            self.digests.subtract(old);
            self.addresses.subtract(old);
            self.prefixes.subtract(old);
        }
        for family in Family::ALL {
            let before = old.as_ref().and_then(|old| *old.pod_cidrs.get(family));
            let now = *member.pod_cidrs.get(family);
            if before == now {
                continue;
            }
            if let Some(cidr) = before {
                self.claims.release(cidr, &member.name);
            }
            if let Some(cidr) = now {
                self.claims.claim(cidr, &member.name);
            }
        }
    }

    fn remove(&mut self, name: &NodeName) {
        let Some(old) = self.members.remove(name) else { return };
        self.digests.subtract(&old);
        self.addresses.subtract(&old);
        self.prefixes.subtract(&old);
        for cidr in old.pod_cidrs.iter() {
            self.claims.release(*cidr, name);
        }
    }

    fn set_settings(&mut self, settings: &Arc<Settings>) {
        if let Some(old) = &self.settings {
            self.digests.subtract_settings(old);
        }
        self.digests.add_settings(settings);
        self.settings = Some(Arc::clone(settings));
    }

    /// The claims of new members: first those that were there, by age, then the new ones.
    fn claims_of(&self, members: &BTreeMap<NodeName, Arc<Member>>) -> Claims {
        let claims_of = |member: &Arc<Member>| member.pod_cidrs.iter().copied().collect::<Vec<PodCidr>>();
        let mut ordered: Vec<_> = members
            .values()
            .flat_map(|member| claims_of(member).into_iter().map(move |cidr| (cidr, &member.name)))
            .map(|(cidr, name)| (self.claims.age(cidr, name), cidr, name))
            .collect();
        ordered.sort_by_key(|(age, ..)| *age);
        let mut claims = Claims::default();
        for (_, cidr, name) in ordered {
            claims.claim(cidr, name);
        }
        claims
    }
}
