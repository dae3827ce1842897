//! Words, conditions and what counts as a change.

use super::*;
use crate::{
    cluster::Reach,
    kubernetes::vteps::tests::{kernel_differs, standing},
};

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_100).expect("a time")
}

fn words(status: &VtepStatus) -> Vec<(String, String, String)> {
    let words = |one: &Condition| (one.type_.clone(), one.status.clone(), one.reason.clone());
    status.conditions.iter().map(words).collect()
}

fn expect(status: &VtepStatus, wanted: [(&str, &str, &str); 5]) {
    let wanted = wanted.map(|(kind, status, reason)| (kind.to_owned(), status.to_owned(), reason.to_owned()));
    assert_eq!(words(status), wanted);
}

#[test]
fn each_state_has_its_conditions() {
    let of = |standing: &NodeStanding| status(standing, None, Some(4), false, now());
    let ready = of(&standing("n1", State::Ready, ""));
    expect(
        &ready,
        [
            ("Ready", "True", "PeerReady"),
            ("Connected", "True", "StreamOpen"),
            ("Programmed", "True", "ReadBack"),
            ("Reachable", "True", "ProbesAnswered"),
            ("Allocated", "True", "PodCIDRsAllocated"),
        ],
    );
    assert!(ready.conditions.iter().all(|condition| condition.observed_generation == Some(4)));

    let mut never = standing("n1", State::Pending, "NeverConnected");
    (never.is_connected, never.has_reported, never.health, never.applied) = (false, false, None, None);
    (never.probed, never.pod_cidrs) = (Probed::Unknown, Default::default());
    expect(
        &of(&never),
        [
            ("Ready", "False", "NeverConnected"),
            ("Connected", "False", "NeverConnected"),
            ("Programmed", "False", "NeverConnected"),
            ("Reachable", "Unknown", "NoProbes"),
            ("Allocated", "False", "NoPodCIDR"),
        ],
    );

    let lost = of(&standing("n1", State::Disconnected, "AgentDisconnected"));
    assert_eq!(words(&lost)[2], ("Programmed".into(), "Unknown".into(), "AgentDisconnected".into()));

    let mut degraded = standing("n1", State::Degraded, "KernelDiffers");
    degraded.health = Some(Health { problem: Some(kernel_differs()), ..Health::default() });
    degraded.probed = Probed::Lost("no answer to probes from n2".into());
    let degraded = of(&degraded);
    assert_eq!(words(&degraded)[2], ("Programmed".into(), "False".into(), "KernelDiffers".into()));
    assert_eq!(degraded.conditions[3].message, "no answer to probes from n2");
    assert_eq!(degraded.message, "because of KernelDiffers");
}

#[test]
fn paths_are_one_text_where_the_families_agree() {
    let reach = |direct, tunnel, unreached| Reach { direct, tunnel, unreached };
    let text = |paths| {
        let standing = NodeStanding { paths, ..standing("n1", State::Ready, "") };
        status(&standing, None, None, false, now()).paths
    };
    assert_eq!(text(vec![(Family::V4, reach(1, 2, 0))]), "1 direct, 2 vxlan");
    assert_eq!(text(vec![(Family::V4, reach(1, 2, 0)), (Family::V6, reach(1, 2, 0))]), "1 direct, 2 vxlan");
    assert_eq!(
        text(vec![(Family::V4, reach(1, 2, 0)), (Family::V6, reach(0, 2, 1))]),
        "ipv4: 1 direct, 2 vxlan; ipv6: 2 vxlan, 1 unreached"
    );
    assert_eq!(text(Vec::new()), "");
}

#[test]
fn figures_are_a_lesser_change_than_states() {
    let before = status(&standing("n1", State::Ready, ""), None, None, false, now());
    assert_eq!(change(None, &before), Some(Change::State));
    assert_eq!(change(Some(&before), &before), None);
    let lag = NodeStanding { lag: 3, ..standing("n1", State::Ready, "") };
    assert_eq!(change(Some(&before), &status(&lag, Some(&before), None, false, now())), Some(Change::Detail));
    let lost = NodeStanding { probed: Probed::Lost("x".into()), ..standing("n1", State::Ready, "") };
    assert_eq!(change(Some(&before), &status(&lost, Some(&before), None, false, now())), Some(Change::State));
}

#[test]
fn a_young_term_knows_of_probes_what_the_last_one_knew() {
    let before = status(&standing("n1", State::Ready, ""), None, None, false, now());
    let unknown = NodeStanding { probed: Probed::Unknown, ..standing("n1", State::Ready, "") };
    let of = |young| words(&status(&unknown, Some(&before), None, young, now()))[REACHABLE].1.clone();
    assert_eq!((of(true).as_str(), of(false).as_str()), ("True", "Unknown"));
}

#[test]
fn what_goes_to_the_api_comes_back_the_same() {
    let mut standing = standing("n1", State::Unreachable, "ProbeLost");
    standing.since = Some(UnixMs(1_700_000_000_987));
    let status = status(&standing, None, Some(1), false, now());
    let text = k8s_openapi::serde_json::to_string(&status).expect("plain data");
    let back: VtepStatus = k8s_openapi::serde_json::from_str(&text).expect("the same type");
    assert_eq!(back, status, "it would be written for ever");
}
