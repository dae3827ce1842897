//! Who leads, by the Lease.
//!
//! Owns when a Lease is too old to be believed. Must never take a stale one for a leader: what the Vteps say is as old.

use std::time::{Duration, SystemTime};

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use serde::Serialize;

use crate::output::rfc3339;

/// Where the Lease does not say how long it holds.
const USUAL_SECONDS: i32 = 15;
/// So much may this machine's clock be ahead of the leader's.
const CLOCKS_APART: Duration = Duration::from_secs(15);

/// The holder of the Lease.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Leader {
    pub(crate) holder: String,
    /// Since when it leads.
    pub(crate) since: Option<String>,
    pub(crate) renewed: Option<String>,
    /// How often the leader has changed.
    pub(crate) changes: i32,
}

/// The holder, also of a Lease that is too old.
pub(crate) fn holder(lease: &Lease) -> Option<Leader> {
    let spec = lease.spec.as_ref()?;
    let holder = spec.holder_identity.clone().filter(|holder| !holder.is_empty())?;
    let time = |time: &Option<MicroTime>| time.as_ref().and_then(|time| rfc3339(time.0.as_millisecond()));
    let (since, renewed) = (time(&spec.acquire_time), time(&spec.renew_time));
    Some(Leader { holder, since, renewed, changes: spec.lease_transitions.unwrap_or_default() })
}

/// Why nobody leads; none where somebody does.
pub(crate) fn absence(lease: &Lease, now: SystemTime) -> Option<String> {
    let Some(leader) = holder(lease) else { return Some("no controller leads: nobody holds its Lease".to_owned()) };
    let spec = lease.spec.as_ref()?;
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(USUAL_SECONDS)).unwrap_or_default();
    let limit = Duration::from_secs(seconds) + CLOCKS_APART;
    let renewed = spec.renew_time.as_ref().map_or(SystemTime::UNIX_EPOCH, |time| SystemTime::from(time.0));
    let age = now.duration_since(renewed).unwrap_or_default();
    (age > limit).then(|| {
        let since = leader.renewed.as_deref().unwrap_or("ever");
        format!("no controller leads: {} held the Lease and has not renewed it since {since}", leader.holder)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(spec: &serde_json::Value) -> Lease {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "weft-controller"}, "spec": spec}))
            .expect("a Lease")
    }

    #[test]
    fn a_lease_that_nobody_renews_has_no_leader() {
        let lease = lease(&serde_json::json!({
            "holderIdentity": "controller-a", "leaseDurationSeconds": 15, "leaseTransitions": 2,
            "acquireTime": "2023-11-14T22:00:00.000000Z", "renewTime": "2023-11-14T22:13:20.000000Z",
        }));
        let renewed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(absence(&lease, renewed + Duration::from_secs(29)), None);
        assert_eq!(absence(&lease, renewed - Duration::from_secs(90)), None, "our clock is behind");
        let message = absence(&lease, renewed + Duration::from_secs(31)).expect("too old");
        assert!(message.contains("controller-a") && message.contains("2023-11-14T22:13:20Z"), "{message}");
        let leader = holder(&lease).expect("a holder");
        assert_eq!((leader.since.as_deref(), leader.changes), (Some("2023-11-14T22:00:00Z"), 2));
    }

    #[test]
    fn a_lease_as_the_chart_makes_it_has_no_holder() {
        for spec in [serde_json::json!({}), serde_json::json!({"holderIdentity": ""})] {
            let lease = lease(&spec);
            assert!(holder(&lease).is_none());
            assert!(absence(&lease, SystemTime::now()).expect("nobody").contains("nobody holds"));
        }
    }
}
