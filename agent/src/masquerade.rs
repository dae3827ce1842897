//! Where this node's pods go under their own addresses.
//!
//! Owns who decides: the operator at this node, else the cluster. Must never guess: what cannot be read masquerades, as it is
//! without a setting.

use tracing::warn;
use weft_core::{masquerade::Unmasqueraded, settings::Settings};
use weft_proto::convert;

/// The networks of `own` if there are any, else those of the cluster.
pub(crate) fn decided(own: Option<&Unmasqueraded>, settings: &Settings) -> Unmasqueraded {
    if let Some(own) = own {
        return own.clone();
    }
    convert::settings_more(&settings.more).unwrap_or_else(|error| {
        warn!("the cluster's settings say something that is not understood: {error}; all pods are masqueraded");
        Unmasqueraded::default()
    })
}
