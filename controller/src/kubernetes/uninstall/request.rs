//! Who asks for the uninstallation, and whether he still does.
//!
//! Owns how the request is read, and when one that has to be renewed is over. Pure. Must never take an old request for a new
//! one: a Job that was left behind, or an object that some tool applied, must not take the network away.

use std::time::Duration;

use k8s_openapi::{api::core::v1::ConfigMap, serde_json};
use kube::ResourceExt as _;
use tokio::time::Instant;
use weft_api::{Uninstall, UninstallRequest, names};

/// A hook that has not renewed its request for so long is gone.
const RENEWAL: Duration = Duration::from_secs(60);

/// What the cluster's ConfigMap asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing.
    Nothing,
    /// An operator wants it, until he takes the request back.
    ByOperator,
    /// The chart's hook wants it, for as long as it renews the request.
    ByHook(UninstallRequest),
    /// Something that nobody of this version writes.
    Unreadable(String),
}

impl Asked {
    pub(super) fn of(map: &ConfigMap) -> Self {
        match map.annotations().get(names::UNINSTALL_ANNOTATION) {
            None => Self::Nothing,
            Some(value) if map.uid().is_some_and(|uid| uid == *value) => Self::ByOperator,
            Some(value) => match serde_json::from_str(value) {
                Ok(request) => Self::ByHook(request),
                Err(_) => Self::Unreadable(value.clone()),
            },
        }
    }
}

/// What the object says of how it stands.
pub(super) fn told(map: &ConfigMap) -> Option<Uninstall> {
    let text = map.data.as_ref()?.get(names::UNINSTALL)?;
    serde_json::from_str(text).ok()
}

/// When a request was renewed last, by our own clock.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    last: Option<UninstallRequest>,
    renewed: Option<Instant>,
}

impl Renewal {
    /// Takes what is asked now. What was there when we looked first may be as old as the world.
    pub(super) fn see(&mut self, asked: &Asked, is_first: bool) {
        let request = match asked {
            Asked::ByHook(request) => Some(request),
            _ => None,
        };
        if request.is_some() && request != self.last.as_ref() && !is_first {
            self.renewed = Some(Instant::now());
        }
        self.last = request.cloned();
    }

    /// True while whoever asked is still there.
    pub(super) fn is_fresh(&self) -> bool {
        self.last.is_some() && self.renewed.is_some_and(|at| at.elapsed() < RENEWAL)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &str) -> ConfigMap {
        let metadata = json!({ "name": "weft-cluster", "uid": "7-7", "annotations": { "weft.dev/uninstall": value } });
        serde_json::from_value(json!({ "metadata": metadata })).expect("a ConfigMap")
    }

    fn hook(beat: u64) -> Asked {
        Asked::of(&map(&json!({ "release": "weft", "revision": 3, "by": "a", "beat": beat }).to_string()))
    }

    #[test]
    fn an_operator_names_the_object_and_a_hook_itself() {
        assert_eq!(Asked::of(&ConfigMap::default()), Asked::Nothing);
        assert_eq!(Asked::of(&map("7-7")), Asked::ByOperator);
        assert!(matches!(hook(1), Asked::ByHook(request) if request.release == "weft" && request.revision == 3));
        for other in ["requested", "", "7-8", "{}"] {
            assert_eq!(Asked::of(&map(other)), Asked::Unreadable(other.to_owned()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_counts_while_it_is_renewed() {
        let mut renewal = Renewal::default();
        renewal.see(&hook(0), true);
        assert!(!renewal.is_fresh(), "it may be as old as the world");
        renewal.see(&hook(1), false);
        assert!(renewal.is_fresh());
        tokio::time::advance(RENEWAL / 2).await;
        renewal.see(&hook(1), false);
        assert!(renewal.is_fresh());
        tokio::time::advance(RENEWAL / 2).await;
        assert!(!renewal.is_fresh(), "the same again is no renewal");
        renewal.see(&hook(2), false);
        assert!(renewal.is_fresh());
        renewal.see(&Asked::Nothing, false);
        assert!(!renewal.is_fresh());
    }
}
