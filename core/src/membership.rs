//! Membership: who is in the cluster, and how a change of it travels.
//!
//! Owns the members, their revisions and the digest. The controller keeps a [`Log`], every agent a [`View`]; deltas and
//! snapshots lead from one to the other. Must never decide that a silent node is gone: a member departs by name only.

mod addresses;
mod claims;
mod digest;
mod log;
mod prefixes;
mod view;

use std::{net::IpAddr, sync::Arc};

pub use digest::{Digest, DigestError, Digests, Told};
pub use log::Log;
pub use prefixes::Prefixes;
pub use view::{Touched, View, ViewError};

pub use crate::more::More;

use crate::{
    encap::Endpoint,
    settings::Settings,
    types::{Family, NodeName, PerFamily, PodCidr, Revision, UnderlayAddress},
};

/// A node of the cluster as every other node needs to know it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// Which life of that name: raised when a node is deleted and joins again.
    pub incarnation: u64,
    /// At most one pod CIDR per family.
    pub pod_cidrs: PerFamily<Option<PodCidr>>,
    /// What it is in the tunnel.
    pub endpoint: Endpoint,
    /// Underlay addresses with their on-link prefixes.
    pub underlay: PerFamily<Option<UnderlayAddress>>,
    /// MTU of the underlay link in bytes.
    pub underlay_mtu: u32,
    /// What later versions say of it.
    pub more: More,
}

/// How packets of one family travel between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Encapsulated.
    Tunnel,
    /// The plain route.
    Direct,
    /// Not at all: mode `never` and no common subnet, or no outer address yet.
    None,
}

impl Member {
    /// How packets of `family` travel between this node and `other`; symmetric.
    pub fn path(&self, other: &Self, family: Family, settings: &Settings) -> Path {
        use crate::settings::Mode;
        if settings.mode != Mode::Always && self.shares_subnet(other, family) {
            return Path::Direct;
        }
        let both_have_outer =
            self.underlay.get(settings.outer()).is_some() && other.underlay.get(settings.outer()).is_some();
        if settings.mode == Mode::Never || !both_have_outer { Path::None } else { Path::Tunnel }
    }

    /// Its underlay addresses, each with its name.
    pub fn named_underlays(&self) -> impl Iterator<Item = (NodeName, IpAddr)> {
        self.underlay.iter().map(|underlay| (self.name.clone(), underlay.address()))
    }

    fn shares_subnet(&self, other: &Self, family: Family) -> bool {
        match (self.underlay.get(family), other.underlay.get(family)) {
            (Some(mine), Some(theirs)) => mine.reaches(theirs) && theirs.reaches(mine),
            _ => false,
        }
    }
}

/// One change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A member joined or changed; the whole new value.
    Upsert(Arc<Member>),
    /// A member departed.
    Departed(NodeName),
    /// The cluster's settings changed.
    Settings(Arc<Settings>),
}

/// All that changed after one revision up to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The receiver must hold at least this revision of the same epoch.
    pub from: Revision,
    /// What the receiver holds afterwards.
    pub to: Revision,
    /// The changes with their sequences, ascending; at most one per member, its latest.
    pub changes: Vec<(u64, Change)>,
}

/// The whole membership at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was taken.
    pub revision: Revision,
    /// The cluster's settings.
    pub settings: Arc<Settings>,
    /// All members by name, ascending.
    pub members: Vec<Arc<Member>>,
}

impl Snapshot {
    /// Its digests, to be compared with the sender's before the snapshot counts.
    pub fn digests(&self) -> Digests {
        Digests::of(&self.settings, self.members.iter().map(AsRef::as_ref))
    }
}
