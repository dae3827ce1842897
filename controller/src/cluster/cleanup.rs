//! Weft leaves the cluster: every agent removes what it made on its node.
//!
//! Owns the order to do so, for streams that are open and for those that come, and who has carried it out. What an agent
//! said counts until it connects anew: before it says so again, it may have programmed its node. Must never take silence
//! for success.

use std::collections::BTreeSet;

use weft_core::types::NodeName;

use super::{Refusal, actor::Actor};

/// The clean-up under way.
#[derive(Debug, Default)]
pub(super) struct CleanUp {
    cleaned: BTreeSet<NodeName>,
}

/// How far the nodes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CleanUpStanding {
    /// Nodes without anything of Weft's, by name.
    pub(crate) cleaned: Vec<NodeName>,
    /// Nodes that something may be left on, by name, each with a sentence why.
    pub(crate) waiting: Vec<(NodeName, String)>,
}

impl Actor {
    /// Gives the order, or calls it off.
    pub(super) fn order_clean_up(&mut self, is_on: bool) {
        if is_on == self.cleaning.is_some() {
            return;
        }
        self.publisher.order_clean_up(is_on);
        self.peers.touch();
        if is_on {
            tracing::warn!(agents = self.sessions.len(), "every agent is told to remove Weft from its node");
            self.cleaning = Some(CleanUp::default());
            return;
        }
        tracing::warn!("the clean-up is called off: agents connect again and program their nodes");
        self.cleaning = None;
        let told: Vec<NodeName> = self.sessions.iter().map(|(node, _)| node.clone()).collect();
        for node in told {
            self.sessions.close(&node, || Refusal::CalledOff { node: node.clone() });
        }
    }

    /// A new stream: what was said on an earlier one does not count any more.
    pub(super) fn node_connects(&mut self, node: &NodeName) {
        if let Some(cleaning) = &mut self.cleaning {
            cleaning.cleaned.remove(node);
        }
    }

    /// An agent says that nothing is left on its node.
    pub(super) fn note_cleaned(&mut self, node: &NodeName) {
        let Some(cleaning) = &mut self.cleaning else { return };
        if cleaning.cleaned.insert(node.clone()) {
            tracing::info!(%node, "nothing of Weft is left on it");
            self.peers.touch();
        }
    }

    /// Who has carried the order out, and who has not and why.
    pub(super) fn clean_up_standing(&self) -> CleanUpStanding {
        let mut standing = CleanUpStanding::default();
        let Some(cleaning) = &self.cleaning else { return standing };
        for (name, node) in self.registry.nodes() {
            let live = self.sessions.get(name);
            if cleaning.cleaned.contains(name) {
                standing.cleaned.push(name.clone());
            } else if let Some(live) = live {
                let problem = live.health.problem.as_ref().map(|problem| problem.message.as_str());
                let why = problem.unwrap_or("its agent is told and has not answered yet");
                standing.waiting.push((name.clone(), why.to_owned()));
            } else if node.facts.is_some() {
                let why = "its agent is not connected: start it, or delete the Node if the machine is gone";
                standing.waiting.push((name.clone(), why.to_owned()));
            }
            // One whose agent never reported was never programmed.
        }
        standing
    }
}

#[cfg(test)]
mod tests;
