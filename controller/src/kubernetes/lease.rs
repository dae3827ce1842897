//! The Lease object, by which replicas elect the leader.
//!
//! Owns the requests to it, and what is written where in it: the fields as every Kubernetes component has them, so that people and
//! tools can read who leads, and an annotation with the leader's address. Must never judge by a time in it: clocks of different
//! machines do not agree.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt as _};
use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use weft_api::names;

use super::{chain, is_conflict};
use crate::leader::{Bid, Claim, Lease, LeaseError, Seen};

/// Lease `weft-controller` of a namespace.
#[derive(Debug)]
pub struct KubeLease {
    leases: Api<Object>,
    /// As it was read or written last, to be written again with all that is not ours.
    known: Option<Object>,
}

impl KubeLease {
    /// The one in `namespace` of the cluster that `client` talks to.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { leases: Api::namespaced(client, namespace), known: None }
    }

    /// Writes it, where nobody else did since this version.
    async fn replace(&mut self, object: &Object) -> Result<Seen, LeaseError> {
        let written = self.leases.replace(names::CONTROLLER, &PostParams::default(), object).await;
        Ok(self.note(written.map_err(failed)?))
    }

    fn note(&mut self, object: Object) -> Seen {
        let seen = seen(&object);
        self.known = Some(object);
        seen
    }
}

impl Lease for KubeLease {
    fn name(&self) -> String {
        format!("Lease {}", names::CONTROLLER)
    }

    fn read(&mut self) -> BoxFuture<'_, Result<Seen, LeaseError>> {
        async {
            let object = self.leases.get(names::CONTROLLER).await.map_err(failed)?;
            Ok(self.note(object))
        }
        .boxed()
    }

    fn hold<'a>(&'a mut self, bid: &'a Bid, claim: &'a Claim) -> BoxFuture<'a, Result<Seen, LeaseError>> {
        async {
            let mut object = self.known.clone().ok_or(LeaseError::Conflict)?;
            hold(&mut object, bid, claim);
            self.replace(&object).await
        }
        .boxed()
    }

    fn release<'a>(&'a mut self, holder: &'a str) -> BoxFuture<'a, Result<bool, LeaseError>> {
        async move {
            let mut object = self.leases.get(names::CONTROLLER).await.map_err(failed)?;
            if seen(&object).holder.as_deref() != Some(holder) {
                return Ok(false);
            }
            release(&mut object);
            self.replace(&object).await?;
            Ok(true)
        }
        .boxed()
    }
}

/// What the API server says against a request.
#[derive(Debug, thiserror::Error)]
#[error("{}", chain(.0))]
struct Said(kube::Error);

fn failed(error: kube::Error) -> LeaseError {
    if is_conflict(&error) { LeaseError::Conflict } else { LeaseError::Failed(Said(error).into()) }
}

/// What of it decides.
fn seen(lease: &Object) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let address = lease.metadata.annotations.as_ref().and_then(|all| all.get(names::LEADER_ADDRESS));
    Seen {
        uid: lease.metadata.uid.clone().unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        address: address.and_then(|address| address.parse().ok()),
        duration: seconds.map(Duration::from_secs),
        transitions: spec.lease_transitions,
    }
}

fn hold(lease: &mut Object, bid: &Bid, claim: &Claim) {
    let now = MicroTime(Timestamp::now());
    lease.metadata.resource_version = Some(bid.version.clone());
    lease
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(names::LEADER_ADDRESS.to_owned(), claim.address.to_string());
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if bid.acquires {
        spec.acquire_time = Some(now.clone());
    }
    spec.holder_identity = Some(claim.holder.clone());
    spec.lease_duration_seconds = Some(i32::try_from(claim.duration.as_secs()).unwrap_or(i32::MAX));
    spec.lease_transitions = Some(bid.transitions);
    spec.renew_time = Some(now);
}

fn release(lease: &mut Object) {
    if let Some(annotations) = lease.metadata.annotations.as_mut() {
        annotations.remove(names::LEADER_ADDRESS);
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = None;
    spec.renew_time = Some(MicroTime(Timestamp::now()));
}

#[cfg(test)]
mod tests;
