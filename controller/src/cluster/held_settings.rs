//! Settings that some agents are too old for.
//!
//! Owns when they are announced: once the last member is new enough, or at once where the operator says so. Until then what
//! was announced before goes on, and who is waited for is told. Once announced they stay, whoever is downgraded later: that
//! member is shown instead. Must never keep the controller from starting, nor hold back what every agent can follow.

use weft_core::{settings::Settings, types::NodeName};

use super::{
    actor::{Actor, Batch},
    registry::Registry,
};
use crate::store::{NodeRecord, Write};

/// What may be announced now of the settings that are wanted, after those of `before`.
pub(super) fn due(wanted: &Settings, before: Option<&Settings>, registry: &Registry, is_forced: bool) -> Settings {
    let held = before.map(|before| before.more.clone()).unwrap_or_default();
    if is_forced || wanted.more == held || awaited(wanted, registry).next().is_none() {
        return wanted.clone();
    }
    Settings { more: held, ..wanted.clone() }
}

/// The members whose agents could not follow these settings. One whose agent never came is told of nothing yet.
pub(super) fn awaited<'a>(wanted: &Settings, registry: &'a Registry) -> impl Iterator<Item = &'a NodeRecord> + use<'a> {
    let needed = wanted.generation();
    registry.nodes().values().filter(move |node| node.facts.as_ref().is_some_and(|facts| facts.generation < needed))
}

impl Actor {
    /// Announces what was held back, once the last agent is new enough.
    pub(super) fn release_settings(&mut self, batch: &mut Batch) {
        let wanted = &self.rules.settings;
        let announced = self.publisher.settings();
        if *announced == *wanted || due(wanted, Some(&announced), &self.registry, false) != *wanted {
            return;
        }
        let wanted = wanted.clone();
        tracing::info!("every agent is new enough for the settings that were held back: they are announced");
        batch.writes.push(Write::Settings(wanted.clone()));
        batch.then(move |actor, answer| {
            if answer.is_ok() {
                actor.publisher.set_settings(wanted);
                actor.peers.touch();
            }
        });
    }

    /// Who keeps settings from being announced.
    pub(super) fn awaited_agents(&self) -> Vec<NodeName> {
        if *self.publisher.settings() == self.rules.settings {
            return Vec::new();
        }
        awaited(&self.rules.settings, &self.registry).map(|node| node.name.clone()).collect()
    }
}

/// Says at the beginning of a term what is held back, and how that ends.
pub(super) fn tell(wanted: &Settings, announced: &Settings, registry: &Registry) {
    if wanted == announced {
        return;
    }
    let names: Vec<&str> = awaited(wanted, registry).map(|node| node.name.as_str()).collect();
    tracing::warn!(
        agents = names.join(", "),
        "settings are held back until these agents are upgraded: upgrade them, delete their nodes, or announce them anyway (option forceSettings)"
    );
}

#[cfg(test)]
mod tests;
