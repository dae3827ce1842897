//! Joining.
//!
//! Owns the rules of join tokens: one node name, an end, and at first use a binding to one key. The same key may
//! repeat for a while, since an answer can get lost; everything else needs a new token. A new token begins a new life of the name.
//! Must never hand a CIDR to a second node: the allocator and the store both see to that.

use sha2::{Digest, Sha256};
use weft_core::{
    encap::Endpoint,
    membership::More,
    types::{Mac, NodeName, UnixMs},
};

use super::{Changed, Registry, lives};
use crate::{
    cluster::{JoinAsk, Refusal},
    store::{Binding, NodeRecord, TokenRecord, Write},
};

/// The outcome of a join.
#[derive(Debug)]
pub(in crate::cluster) struct Joined {
    /// The life that the certificate is for.
    pub(in crate::cluster) incarnation: u64,
    /// True where this join began it.
    pub(in crate::cluster) is_new_life: bool,
    pub(in crate::cluster) changed: Changed,
}

impl Registry {
    /// Takes a node in.
    pub(in crate::cluster) fn join(&mut self, ask: &JoinAsk, now: UnixMs) -> Result<Joined, Refusal> {
        let node = || ask.node.clone();
        let token = self.token_for(ask)?;
        if let Some(bound) = &token.bound {
            let lives_on = self.nodes.get(&ask.node).is_some_and(|node| node.incarnation == bound.incarnation);
            if bound.key_hash != ask.key_hash || !lives_on {
                return Err(Refusal::TokenUsed { node: node() });
            }
            // Past its end too, until it is forgotten: whoever holds the key has had the certificate before.
            return Ok(Joined { incarnation: bound.incarnation, is_new_life: false, changed: Changed::default() });
        }
        if token.expires_unix <= now.seconds() {
            return Err(Refusal::TokenExpired { node: node() });
        }
        self.begin_life(ask, now)
    }

    /// Forgets tokens that were used and ended more than `kept` seconds ago: whoever finds one with its key on an old disk has nothing then, as with
    /// a certificate that was given out at the token's end.
    pub(in crate::cluster) fn forget_tokens(&mut self, now_unix: i64, kept: i64) -> Vec<Write> {
        let mut writes = Vec::new();
        self.tokens.retain(|id, token| {
            let counts = token.bound.is_none() || token.expires_unix.saturating_add(kept) > now_unix;
            writes.extend((!counts).then_some(Write::RemoveToken(*id)));
            counts
        });
        writes
    }

    fn token_for(&self, ask: &JoinAsk) -> Result<TokenRecord, Refusal> {
        let known = self.tokens.get(&ask.token.id).filter(|token| ask.token.matches(&token.secret_hash));
        let token = known.ok_or_else(|| Refusal::TokenUnknown { node: ask.node.clone() })?;
        if token.node != ask.node {
            return Err(Refusal::TokenOtherNode { node: ask.node.clone() });
        }
        Ok(token.clone())
    }

    fn begin_life(&mut self, ask: &JoinAsk, now: UnixMs) -> Result<Joined, Refusal> {
        let name = &ask.node;
        let mut record = match self.nodes.get(name) {
            Some(record) => record.clone(),
            None => self.new_node(name, now)?,
        };
        record.incarnation = lives::next(record.incarnation, now.seconds());
        let incarnation = record.incarnation;
        let token = self.tokens.get_mut(&ask.token.id).expect("found by token_for just now");
        token.bound = Some(Binding { key_hash: ask.key_hash, incarnation });
        let mut writes = vec![Write::Node(record.clone()), Write::Token(token.clone())];
        if self.lives.remove(name).is_some() {
            writes.push(Write::RemoveLife(name.clone()));
        }
        self.macs.insert(record.endpoint.mac());
        self.nodes.insert(name.clone(), record);
        Ok(Joined {
            incarnation,
            is_new_life: true,
            changed: Changed { writes, touched: vec![name.clone()], ..Changed::default() },
        })
    }

    /// A node that goes on from its last life, if there was one.
    fn new_node(&mut self, name: &NodeName, now: UnixMs) -> Result<NodeRecord, Refusal> {
        let exhausted = |detail: String| Refusal::PoolsExhausted { node: name.clone(), detail };
        let pod_cidrs = self.allocator.allocate_all(name).map_err(|error| exhausted(error.to_string()))?;
        Ok(NodeRecord {
            name: name.clone(),
            incarnation: self.lives.get(name).map_or(0, |life| life.incarnation),
            pod_cidrs,
            endpoint: Endpoint::of(self.free_mac(name)),
            more: More::default(),
            facts: None,
            joined: now,
            node_uid: None,
        })
    }

    /// Derived from the name, so that a node that returns has the same one, and from a count where two names collide.
    pub(in crate::cluster) fn free_mac(&self, name: &NodeName) -> Mac {
        (0u64..)
            .map(|attempt| {
                let hash =
                    Sha256::new().chain_update(name.as_str()).chain_update([0]).chain_update(attempt.to_be_bytes());
                let hash = hash.finalize();
                Mac::local([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5]])
            })
            .find(|mac| !self.macs.contains(mac))
            .expect("there are more attempts than nodes")
    }
}

#[cfg(test)]
mod tests;
