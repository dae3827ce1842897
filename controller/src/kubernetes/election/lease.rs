//! The Lease as an object.
//!
//! Owns what is written where in it: the fields as every Kubernetes component has them, so that people and tools can
//! read who leads, and an annotation with the leader's address. Must never judge by a time in it: clocks of different
//! machines do not agree.

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use weft_api::names;

use super::machine::{Bid, Seen};

/// What of it decides.
pub(super) fn seen(lease: &Lease) -> Seen {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Seen {
        uid: lease.metadata.uid.clone().unwrap_or_default(),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: seconds.map(Duration::from_secs),
        transitions: spec.lease_transitions,
    }
}

/// Where its holder says that agents reach it.
pub(super) fn address(lease: &Lease) -> Option<SocketAddr> {
    lease.metadata.annotations.as_ref()?.get(names::LEADER_ADDRESS)?.parse().ok()
}

/// Makes `holder` its holder for another while.
pub(super) fn hold(lease: &mut Lease, bid: &Bid, holder: &str, address: SocketAddr, duration: Duration) {
    let now = MicroTime(Timestamp::now());
    lease.metadata.annotations.get_or_insert_default().insert(names::LEADER_ADDRESS.to_owned(), address.to_string());
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    if bid.acquires {
        spec.acquire_time = Some(now.clone());
    }
    spec.holder_identity = Some(holder.to_owned());
    spec.lease_duration_seconds = Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX));
    spec.lease_transitions = Some(bid.transitions);
    spec.renew_time = Some(now);
}

/// Makes it nobody's.
pub(super) fn release(lease: &mut Lease) {
    if let Some(annotations) = lease.metadata.annotations.as_mut() {
        annotations.remove(names::LEADER_ADDRESS);
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = None;
    spec.renew_time = Some(MicroTime(Timestamp::now()));
}
