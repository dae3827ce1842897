//! What a client hears at the gate, whoever leads.

use std::net::SocketAddr;

use tonic::Code;
use weft_proto::leader::named_leader;

use super::*;
use crate::cluster::AdmissionRule;

/// Of a cluster without members.
fn roll() -> Arc<Roll> {
    Arc::new(Roll::of(AdmissionRule::Tokens, []))
}

async fn knock(gate: &mut LeaderGate) -> Status {
    let request = Request::post("/weft.v1.JoinService/Join").body(Body::empty()).expect("a request");
    let response = gate.call(request).await.expect("infallible");
    Status::from_header_map(response.headers()).expect("a status without a body")
}

#[tokio::test]
async fn only_a_leader_lets_requests_in() {
    let (role, seen) = watch::channel(Role::Starting("it reads the Node objects".to_owned()));
    let mut gate = LeaderGate(seen);
    let status = knock(&mut gate).await;
    assert_eq!((status.code(), named_leader(&status)), (Code::Unavailable, None));
    assert!(status.message().contains("reads the Node objects"), "{status}");
    assert!(role.borrow().readiness().is_err());

    let address: SocketAddr = "[2001:db8::7]:7887".parse().expect("an address");
    let leader = Some("weft-controller-x".to_owned());
    role.send_replace(Role::Standby(Standby { leader, address: Some(address), trouble: None }));
    let status = knock(&mut gate).await;
    assert_eq!((status.code(), named_leader(&status)), (Code::Unavailable, Some(address)));
    assert!(status.message().contains("weft-controller-x at [2001:db8::7]:7887"), "{status}");
    assert_eq!(role.borrow().readiness(), Ok("standby of weft-controller-x".to_owned()));

    // A leader without services: its answer shows that the request got through.
    role.send_replace(Role::Leading(Routes::default(), Fence::held(), roll()));
    assert_eq!(knock(&mut gate).await.code(), Code::Unimplemented);
    assert_eq!(role.borrow().readiness(), Ok("ready".to_owned()));

    role.send_replace(Role::Leading(Routes::default(), Fence::default(), roll()));
    assert_eq!(knock(&mut gate).await.code(), Code::Unavailable, "it has slept through the end of its time");
    assert!(role.borrow().readiness().is_err());

    let stranger = Principal::Node { name: "a".parse().expect("a name"), incarnation: 1 };
    assert!(role.borrow().welcomes(&stranger), "who does not lead any more cannot tell");
    role.send_replace(Role::Leading(Routes::default(), Fence::held(), roll()));
    assert!(!role.borrow().welcomes(&stranger), "a leader knows its members");

    role.send_replace(Role::Standby(Standby { trouble: Some("no answer".to_owned()), ..Standby::default() }));
    assert_eq!(knock(&mut gate).await.code(), Code::Unavailable, "a leader no more");
    assert_eq!(role.borrow().readiness(), Err("no answer".to_owned()));
}
