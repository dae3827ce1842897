//! What the controller says: a change of few members costs work for these few only.

use std::sync::Arc;

use tracing::{debug, info, warn};
use weft_core::{
    desired::{self, Local},
    membership::{Delta, Digests, Member, Snapshot, Told, Touched},
    settings::Settings,
    types::Revision,
};

use super::Engine;
use crate::{controller::Update, kernel::Kernel, masquerade};

/// With more members than this a full look is cheaper.
const FEW: usize = 256;

impl<K: Kernel> Engine<K> {
    pub(super) async fn update(&mut self, update: Update) {
        match update {
            Update::Snapshot(snapshot, told) => self.snapshot(snapshot, told).await,
            Update::Delta(delta) => self.delta(&delta).await,
            Update::Current { revision, found, knows_more } => self.current(revision, found, knows_more).await,
        }
    }

    async fn current(&mut self, revision: Revision, found: Digests, knows_more: bool) {
        if let Err(error) = self.view.adopt(revision, found) {
            return self.resync(&error.to_string());
        }
        let forgot = !knows_more && self.view.forget_more();
        self.membership_changed();
        if forgot { self.look().await } else { self.publish() }
    }

    async fn snapshot(&mut self, snapshot: Snapshot, told: Told) {
        if !told.is_of(&snapshot.digests()) {
            return self.resync("the snapshot's digest is not that of its members");
        }
        info!(revision = %snapshot.revision, members = snapshot.members.len(), "membership received");
        match self.view.apply_snapshot(snapshot) {
            Ok(()) => {
                self.is_whole = true;
                self.membership_changed();
                self.look().await;
            }
            Err(error) => self.resync(&error.to_string()),
        }
    }

    async fn delta(&mut self, delta: &Delta) {
        let touched = match self.view.apply_delta(delta) {
            Ok(touched) => touched,
            Err(error) => return self.resync(&error.to_string()),
        };
        debug!(revision = %delta.to, touched = touched.len(), "membership changed");
        self.membership_changed();
        if touched.is_empty() || self.change(&touched).await {
            self.publish();
        } else {
            self.look().await;
        }
    }

    /// The stream starts anew with what is held; the kernel stays as it is.
    fn resync(&mut self, reason: &str) {
        warn!("the controller's message cannot be used: {reason}; asking again");
        let (revision, digests) = (self.is_whole.then(|| self.view.revision()), self.view.digests());
        self.out.held.send_modify(|held| {
            held.revision = revision;
            held.digests = Some(digests);
            held.resyncs += 1;
        });
    }

    /// What desired states are made of, once all of it is known.
    pub(super) fn context(&self) -> Option<(Arc<Settings>, Arc<Member>, Local)> {
        let settings = self.view.settings()?.clone();
        let local = self.local(&settings)?;
        Some((settings, self.view.member(&self.setup.node)?, local))
    }

    /// What is known of this node, once its underlay is.
    pub(super) fn local(&self, settings: &Settings) -> Option<Local> {
        let unmasqueraded = masquerade::decided(self.setup.unmasqueraded.as_ref(), settings);
        self.local.clone().map(|local| Local { unmasqueraded, ..local })
    }

    /// Carries out a change of a few peers. False where only a full look will do.
    async fn change(&mut self, touched: &[Touched]) -> bool {
        let Some((settings, me, local)) = self.context() else { return false };
        if !self.trusted || touched.len() > FEW {
            return false;
        }
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for touch in touched {
            match touch {
                Touched::Member { name, old: was, new: is } if *name != me.name => {
                    old.extend(was.as_deref());
                    new.extend(is.as_deref());
                }
                _ => return false,
            }
        }
        let is_of_a_peer = |address| self.view.is_of_a_peer(address, &me);
        let (keys, objects) = desired::changed(&settings, &me, &local, &old, &new, is_of_a_peer, &mut self.ids);
        // Trusted: what was wanted so far is what the kernel was read back to hold, but for what deviated.
        let believed = self.holdings.exchange(&keys, objects);
        self.settle(believed, &keys).await
    }
}
