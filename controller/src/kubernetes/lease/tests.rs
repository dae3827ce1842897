//! The contract, and the election with real requests and the real clock, against an API server in memory.

use std::{net::SocketAddr, sync::Mutex, time::Instant};

use k8s_openapi::serde_json::{Value, json};

use super::*;
use crate::{
    config::LeaseTimes,
    kubernetes::fake::FakeApi,
    leader::{Election, Standby, contract},
};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/weft/leases/weft-controller";
const TIMES: LeaseTimes = LeaseTimes {
    duration: Duration::from_secs(2),
    renew_deadline: Duration::from_millis(600),
    retry_period: Duration::from_millis(50),
};

/// A Lease as the chart makes it.
fn chart() -> FakeApi {
    let api = FakeApi::default();
    api.put(PATH, json!({"metadata": {"name": "weft-controller", "uid": "u", "labels": {"kept": "yes"}}, "spec": {}}));
    api
}

fn lease(api: &FakeApi) -> KubeLease {
    KubeLease::new(api.client(), "weft")
}

fn address() -> SocketAddr {
    "192.0.2.7:7887".parse().expect("an address")
}

fn candidate(api: &FakeApi, name: &str) -> Election {
    Election::new(Box::new(lease(api)), name, address(), TIMES)
}

fn spec(api: &FakeApi) -> Value {
    api.object(PATH)["spec"].clone()
}

async fn patiently<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

#[tokio::test]
async fn the_lease_keeps_the_contract() {
    let api = chart();
    contract::keeps_the_contract(|| lease(&api)).await;
    assert_eq!(api.object(PATH)["metadata"]["labels"]["kept"], "yes", "what is not ours is gone");
}

#[tokio::test]
async fn a_released_lease_is_taken_soon_and_tells_who_has_it() {
    let api = chart();
    let (mut first, mut second) = (candidate(&api, "first"), candidate(&api, "second"));
    patiently("the first to be elected", first.elected(|_| {})).await;
    assert_eq!(spec(&api)["holderIdentity"], first.me());
    assert_eq!(spec(&api)["leaseTransitions"], 0);
    assert_eq!(spec(&api)["leaseDurationSeconds"], 2);
    assert_eq!(api.object(PATH)["metadata"]["labels"]["kept"], "yes");

    let heard = Mutex::new(Vec::new());
    let waiting = second.elected(|standing| heard.lock().expect("one thread").push(standing));
    let follow = async {
        let mut waiting = std::pin::pin!(waiting);
        tokio::select! {
            () = &mut waiting => panic!("elected beside a leader"),
            // Several lease durations: only renewals keep the second one out.
            () = tokio::time::sleep(TIMES.duration * 2) => {}
            () = first.keep() => panic!("the first lost it"),
        }
        first.release().await;
        assert_eq!(spec(&api)["holderIdentity"], Value::Null);
        let released = Instant::now();
        waiting.await;
        released.elapsed()
    };
    let took = patiently("the second to be elected", follow).await;
    assert!(took < TIMES.duration, "it waited for the lease to end, {took:?}");
    assert_eq!(spec(&api)["leaseTransitions"], 1);
    let known = Standby { leader: Some(first.me().to_owned()), address: Some(address()), trouble: None };
    assert!(heard.into_inner().expect("one thread").contains(&known));
}

#[tokio::test]
async fn a_leader_that_hears_nothing_stops_within_its_deadline() {
    let api = chart();
    let mut leader = candidate(&api, "leader");
    patiently("it to be elected", leader.elected(|_| {})).await;
    let began = Instant::now();
    api.set_silent(true);
    let fence = leader.fence();
    assert!(fence.holds());
    patiently("it to stop", leader.keep()).await;
    assert!(!fence.holds());
    assert!(began.elapsed() < TIMES.duration, "another one may lead already");

    api.set_silent(false);
    patiently("it to be elected again", leader.elected(|_| {})).await;
    assert_eq!(spec(&api)["leaseTransitions"], 0, "nobody else had it");
}

#[tokio::test]
async fn a_leader_stops_when_another_has_written_the_lease() {
    let api = chart();
    let mut leader = candidate(&api, "leader");
    patiently("it to be elected", leader.elected(|_| {})).await;
    api.before_next_write(|api| {
        let mut lease = api.object(PATH);
        lease["spec"]["holderIdentity"] = "thief".into();
        api.put(PATH, lease);
    });
    patiently("it to stop", leader.keep()).await;
    assert_eq!(leader.standing().leader.as_deref(), Some("thief"));
    leader.release().await;
    assert_eq!(spec(&api)["holderIdentity"], "thief", "it gave back what is not its own");
}
