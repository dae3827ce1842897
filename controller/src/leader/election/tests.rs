//! Candidates with the real clock, and a Lease in memory that fails as it is told.

use std::time::Instant;

use super::*;
use crate::leader::{LeaseTrouble, MemoryLease, contract};

const TIMES: LeaseTimes = LeaseTimes {
    duration: Duration::from_secs(2),
    renew_deadline: Duration::from_millis(600),
    retry_period: Duration::from_millis(50),
};

fn candidate(lease: &MemoryLease, name: &str) -> Election {
    Election::new(Box::new(lease.clone()), name, ([192, 0, 2, 7], 7887).into(), TIMES)
}

async fn patiently<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

async fn elected(lease: &MemoryLease) -> Election {
    let mut leader = candidate(lease, "leader");
    patiently("it to be elected", leader.elected(|_| {})).await;
    leader
}

#[tokio::test]
async fn the_lease_in_memory_keeps_the_contract() {
    let lease = MemoryLease::default();
    contract::keeps_the_contract(|| lease.clone()).await;
}

#[tokio::test]
async fn a_leader_whose_renewals_fail_stops_before_another_may_lead() {
    for trouble in [LeaseTrouble::Silent, LeaseTrouble::Refused, LeaseTrouble::AnswerLost] {
        let lease = MemoryLease::default();
        let mut leader = elected(&lease).await;
        let fence = leader.fence();
        assert!(fence.holds());
        let began = Instant::now();
        lease.set_trouble(trouble);
        patiently("it to stop", leader.keep()).await;
        assert!(!fence.holds());
        assert!(began.elapsed() < TIMES.duration, "{trouble:?}: another one may lead already");
        let told = leader.standing().trouble.expect("it has trouble");
        assert!(told.starts_with("the Lease in memory cannot be read or written: "), "{told}");
    }
}

#[tokio::test]
async fn who_was_elected_by_an_answer_that_was_lost_finds_out() {
    let lease = MemoryLease::default();
    let mut candidate = candidate(&lease, "leader");
    lease.set_trouble(LeaseTrouble::AnswerLost);
    let in_vain = candidate.elected(|_| {});
    assert!(tokio::time::timeout(TIMES.renew_deadline, in_vain).await.is_err(), "elected by no answer");
    lease.set_trouble(LeaseTrouble::None);
    patiently("it to be elected", candidate.elected(|_| {})).await;
    assert_eq!(candidate.standing().leader.as_deref(), Some(candidate.me()));
}

#[tokio::test]
async fn a_leader_gives_back_only_what_is_its_own() {
    let lease = MemoryLease::default();
    let mut leader = elected(&lease).await;
    lease.put(|seen| seen.holder = Some("thief".to_owned()));
    patiently("it to stop", leader.keep()).await;
    leader.release().await;
    let seen = lease.clone().read().await.expect("readable");
    assert_eq!(seen.holder.as_deref(), Some("thief"));
    assert_eq!(leader.standing().leader.as_deref(), Some("thief"));
}
