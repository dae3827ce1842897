//! The authority of a replica that starts.
//!
//! Owns when a new one is made: by who holds the Lease, and where nodes know an authority already only after nobody who
//! still holds it has put it back for a while. Must never make a second one beside it.

use std::time::Duration;

use kube::api::ListParams;
use tokio::time::{Instant, sleep};

use super::{AuthorityError, Objects};
use crate::{
    leader::{Election, Fence},
    pki::Authority,
};

/// How long the Secret is empty before a new authority is made in a cluster whose nodes know one. A standby that holds it
/// puts it back within a quarter of this.
const EMPTINESS: Duration = Duration::from_secs(60);

/// The authority, made where there is none; it does not resolve while another replica leads without one.
pub(in super::super) async fn first(
    objects: &Objects,
    election: &mut Election,
    pause: Duration,
) -> Result<Authority, AuthorityError> {
    let authority = loop {
        if let Some(authority) = objects.find().await? {
            break authority;
        }
        tokio::select! {
            () = election.elected(|_| ()) => {}
            // Somebody else may fill it meanwhile.
            () = sleep(pause) => continue,
        }
        let fence = election.fence();
        tokio::select! {
            () = election.keep() => {}
            authority = objects.made(&fence, pause) => break authority?,
        }
    };
    match objects.refill_map(&authority).await {
        // The leader names it, again and again.
        Err(AuthorityError::Misnamed { .. }) | Ok(_) => Ok(authority),
        Err(error) => Err(error),
    }
}

impl Objects {
    /// A new authority, unless one appears meanwhile.
    pub(super) async fn made(&self, fence: &Fence, pause: Duration) -> Result<Authority, AuthorityError> {
        if let Some(authority) = self.returned(pause).await? {
            return Ok(authority);
        }
        let (certificate, key) = Authority::generate()?;
        let made = Authority::from_pem(&certificate, &key)?;
        // The leadership is lost: `keep` says so in a moment, and ends this.
        while !fence.holds() {
            sleep(pause).await;
        }
        match self.refill_secret(&made).await {
            Ok(_) => {
                tracing::info!(namespace = self.namespace, "a new certificate authority is in Secret weft-ca");
                Ok(made)
            }
            // Somebody was faster.
            Err(AuthorityError::Replaced { .. } | AuthorityError::Damaged { .. }) => self.required().await,
            Err(error) => Err(error),
        }
    }

    /// Waits as long as it takes to be sure that nobody puts an authority back; the one that somebody has.
    async fn returned(&self, pause: Duration) -> Result<Option<Authority>, AuthorityError> {
        if !self.nodes_know_one().await? {
            return Ok(None);
        }
        tracing::warn!(
            namespace = self.namespace,
            "Secret weft-ca is empty although nodes have joined: a new authority is made after {} s, unless the old one is put back from a backup or by a replica that holds it",
            EMPTINESS.as_secs()
        );
        let until = Instant::now() + EMPTINESS;
        while Instant::now() < until {
            sleep(pause).await;
            if let Some(authority) = self.find().await? {
                return Ok(Some(authority));
            }
        }
        Ok(None)
    }

    async fn required(&self) -> Result<Authority, AuthorityError> {
        self.find().await?.ok_or_else(|| self.damaged("it was filled and emptied again".to_owned()))
    }

    async fn nodes_know_one(&self) -> Result<bool, AuthorityError> {
        let vteps = self.vteps.list_metadata(&ListParams::default().limit(1)).await;
        vteps
            .map(|found| !found.items.is_empty())
            .map_err(|error| self.failed("list", "Vteps beside Secret weft-ca", error))
    }
}
