//! Whose certificates count, for everybody to look up.
//!
//! Owns which life of each name is a member's, as the store has confirmed it. The cluster's task writes it, and whoever has to tell
//! friend from foe reads it without asking that task: whoever is no member must not be able to keep it busy. Must never
//! be ahead of the store.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use weft_core::types::NodeName;

use super::{AdmissionRule, NodeIdentity, Refusal, registry::Registry};
use crate::pki::Principal;

/// The roll of members.
#[derive(Debug)]
pub(crate) struct Roll {
    admission: AdmissionRule,
    lives: RwLock<HashMap<NodeName, u64>>,
}

impl Roll {
    pub(super) fn new(registry: &Registry) -> Self {
        Self { admission: registry.admission().rule(), lives: RwLock::new(lives(registry)) }
    }

    /// One with these lives.
    #[cfg(test)]
    pub(crate) fn of(admission: AdmissionRule, lives: impl IntoIterator<Item = (NodeName, u64)>) -> Self {
        Self { admission, lives: RwLock::new(lives.into_iter().collect()) }
    }

    /// Refuses certificates of nodes that are not, or not any more, what the certificate says.
    pub(crate) fn check(&self, identity: &NodeIdentity, now_unix: i64) -> Result<(), Refusal> {
        let current = self.lives().get(&identity.name).copied();
        judge(self.admission, identity, current, now_unix)
    }

    /// True for operators, and for members in their present life.
    pub(crate) fn counts(&self, principal: &Principal) -> bool {
        match principal {
            Principal::Node { name, incarnation } => self.lives().get(name) == Some(incarnation),
            Principal::Operator(_) => true,
        }
    }

    /// Something about these names was confirmed.
    pub(super) fn note<'a>(&self, names: impl Iterator<Item = &'a NodeName>, registry: &Registry) {
        let mut lives = self.lives.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            match registry.nodes().get(name) {
                Some(node) => drop(lives.insert(name.clone(), node.incarnation)),
                None => drop(lives.remove(name)),
            }
        }
    }

    /// Everything was read again.
    pub(super) fn replace(&self, registry: &Registry) {
        *self.lives.write().unwrap_or_else(PoisonError::into_inner) = lives(registry);
    }

    fn lives(&self) -> RwLockReadGuard<'_, HashMap<NodeName, u64>> {
        self.lives.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lives(registry: &Registry) -> HashMap<NodeName, u64> {
    registry.nodes().iter().map(|(name, node)| (name.clone(), node.incarnation)).collect()
}

/// What a certificate is worth where `current` is the present life of its name.
pub(super) fn judge(
    admission: AdmissionRule,
    identity: &NodeIdentity,
    current: Option<u64>,
    now_unix: i64,
) -> Result<(), Refusal> {
    let node = identity.name.clone();
    let Some(current) = current else { return Err(admission.stranger(node)) };
    if current != identity.incarnation {
        return Err(Refusal::StaleIdentity { node, held: identity.incarnation, current });
    }
    if identity.ends_unix <= now_unix {
        return Err(Refusal::CertificateEnded { node });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeCidrs;

    fn of(name: &str, incarnation: u64) -> NodeIdentity {
        NodeIdentity { name: name.parse().expect("a name"), incarnation, ends_unix: 1000 }
    }

    #[test]
    fn only_the_present_life_of_a_member_counts() {
        let roll = Roll::of(AdmissionRule::Tokens, [("a".parse().expect("a name"), 7)]);
        let counts = |name: &str, incarnation| {
            let NodeIdentity { name, incarnation, .. } = of(name, incarnation);
            roll.counts(&Principal::Node { name, incarnation })
        };
        assert!(counts("a", 7) && !counts("a", 6) && !counts("b", 7));
        assert!(roll.counts(&Principal::Operator("admin".to_owned())));
        assert!(roll.check(&of("a", 7), 999).is_ok());
        assert!(matches!(roll.check(&of("a", 7), 1000), Err(Refusal::CertificateEnded { .. })));
        assert!(matches!(roll.check(&of("a", 6), 999), Err(Refusal::StaleIdentity { held: 6, current: 7, .. })));
        assert!(matches!(roll.check(&of("b", 7), 999), Err(Refusal::UnknownNode { .. })));
    }

    #[test]
    fn on_kubernetes_a_node_that_is_not_there_may_come_yet() {
        let roll = Roll::of(AdmissionRule::Nodes(NodeCidrs::Weft), []);
        assert!(matches!(roll.check(&of("a", 7), 0), Err(Refusal::NodeUnseen { .. })));
    }
}
