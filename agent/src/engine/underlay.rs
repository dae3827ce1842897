//! Which link carries outer packets, and for how long it stays the one.
//!
//! Owns the underlay in use. It stays while its link and address are there, over restarts and reboots too: routes come and
//! go, and a VPN that brings a better one to the controller must not take the tunnel along. Must never keep what was taken for
//! want of a lasting address.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use weft_core::{
    desired::{Local, Underlay},
    masquerade::Unmasqueraded,
    settings::GENERATION,
    standing::{Facts, GATEWAYS, Reason},
    types::Family,
};

use super::{Engine, Problem};
use crate::kernel::{InUse, Kernel, KernelError, UnderlayQuery};

/// A link without a carrier for so long is lost if another one carries.
const WITHOUT_CARRIER: Duration = Duration::from_secs(60);

impl<K: Kernel> Engine<K> {
    /// Finds the underlay, and tells facts that are new.
    pub(super) async fn find_underlay(&mut self) -> Result<(), Problem> {
        let outer = self.view.settings().map(|settings| settings.outer());
        let mut error = None;
        for outer in outer.map_or_else(|| Family::ALL.to_vec(), |outer| vec![outer]) {
            match self.ask_for_underlay(outer).await {
                Ok(underlay) => {
                    self.note_in_use(&underlay, outer);
                    self.take_underlay(underlay);
                    return Ok(());
                }
                Err(failed) => error = Some(failed),
            }
        }
        // What is programmed stays: the link may be back in a moment, and the kernel does what it can until then.
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        Err(Problem::new(Reason::NoUnderlay, message))
    }

    async fn ask_for_underlay(&mut self, outer: Family) -> Result<Underlay, KernelError> {
        let mut query = UnderlayQuery {
            interface: self.setup.interface,
            addresses: self.setup.addresses.clone(),
            in_use: self.in_use,
            controller: self.controller,
            outer,
        };
        if self.carrier_lost.is_some_and(|since| since.elapsed() >= WITHOUT_CARRIER) {
            query.in_use = None;
            if let Ok(other) = self.kernel.underlay(&query).await
                && other.has_carrier
            {
                return Ok(other);
            }
            query.in_use = self.in_use;
        }
        self.kernel.underlay(&query).await
    }

    /// Keeps what others shall find this node at, on disk too. A whole host's prefix may be a virtual address that is here for
    /// a moment: it is used, and given up as soon as there is better.
    fn note_in_use(&mut self, underlay: &Underlay, outer: Family) {
        if underlay.has_carrier {
            self.carrier_lost = None;
        } else {
            let since = *self.carrier_lost.get_or_insert_with(Instant::now);
            self.look_within((since + WITHOUT_CARRIER).saturating_duration_since(Instant::now()));
        }
        let found = InUse { link: underlay.link, addresses: underlay.addresses };
        let is_lasting = underlay.addresses.get(outer).is_some_and(|address| address.prefix() < outer.bits());
        if !is_lasting || self.in_use == Some(found) {
            return;
        }
        self.in_use = Some(found);
        if let Err(error) = self.setup.kept_underlay.save(&found) {
            warn!(
                "the underlay in use cannot be kept on disk: {error}; after a restart routes decide which link it is"
            );
        }
    }

    fn take_underlay(&mut self, underlay: Underlay) {
        let (device, mtu_limit) = (self.setup.device, self.setup.mtu);
        // Decided with each membership.
        let unmasqueraded = Unmasqueraded::default();
        let local = Local { device, mtu_limit, underlay, unmasqueraded };
        let facts = Facts {
            underlay: local.underlay.addresses,
            underlay_mtu: local.mtu(),
            gateways: local.underlay.gateways.iter().copied().take(GATEWAYS).collect(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: GENERATION,
        };
        if let Some(before) = self.local.as_ref().filter(|before| before.underlay != local.underlay) {
            let (from, carrier) = (before.underlay.link, local.underlay.has_carrier);
            info!(link = %local.underlay.link, %from, mtu = local.mtu(), carrier, "the underlay changed");
        }
        self.local = Some(local);
        self.out.facts.send_if_modified(|told| {
            let changed = told.as_ref() != Some(&facts);
            *told = Some(facts);
            changed
        });
    }
}
