//! Refusals in gRPC, and who is calling.
//!
//! Owns the choice of codes: an agent tells by them whether to try again, to join again or to give up. Must never put
//! more into a status than the refusal says.

use tonic::{Code, Status};
use weft_proto::ended;

use crate::{
    cluster::{NodeIdentity, Refusal},
    pki::Principal,
    tls::Caller,
};

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            // An agent that hears this one has to join again.
            Refusal::TokenUnknown { .. }
            | Refusal::UnknownNode { .. }
            | Refusal::Deleted { .. }
            | Refusal::StaleIdentity { .. }
            | Refusal::CertificateEnded { .. } => Code::Unauthenticated,
            Refusal::TokenExpired { .. }
            | Refusal::TokenOtherNode { .. }
            | Refusal::TokenUsed { .. }
            | Refusal::TokenOtherCluster { .. } => Code::PermissionDenied,
            Refusal::AddressTaken { .. }
            | Refusal::AddressHeld { .. }
            | Refusal::AddressOfController { .. }
            | Refusal::AddressOfGateway { .. } => Code::AlreadyExists,
            Refusal::AddressInPool { .. }
            | Refusal::AddressOfNoHost { .. }
            | Refusal::AddressNotOfNode { .. }
            | Refusal::AddressUnproven { .. }
            | Refusal::CleaningUp { .. }
            | Refusal::NodeInvalid { .. }
            | Refusal::CidrOutsidePools { .. }
            | Refusal::CidrTaken { .. }
            | Refusal::CidrsAwaited { .. }
            | Refusal::AllocatorUnknown { .. }
            | Refusal::NodesOfKubernetes { .. } => Code::FailedPrecondition,
            Refusal::NodeReplaced { .. } => Code::PermissionDenied,
            Refusal::PoolsExhausted { .. } => Code::ResourceExhausted,
            Refusal::Store(_) | Refusal::Stopping | Refusal::NodeUnseen { .. } => Code::Unavailable,
            Refusal::Replaced { .. } | Refusal::CalledOff { .. } => Code::Aborted,
            Refusal::NotAcknowledged { .. } => Code::DeadlineExceeded,
        };
        match refusal {
            Refusal::CertificateEnded { .. } => ended::certificate_ended(refusal.to_string()),
            _ => Self::new(code, refusal.to_string()),
        }
    }
}

/// The other end of a request's connection.
pub(super) fn caller(extensions: &http::Extensions) -> Result<Caller, Status> {
    extensions.get::<Caller>().cloned().ok_or_else(|| Status::internal("the request has lost its connection"))
}

/// The node that calls, by its certificate.
pub(super) fn node(caller: &Caller) -> Result<NodeIdentity, Status> {
    match caller.identity.as_deref() {
        Some(identity) => match &identity.principal {
            Principal::Node { name, incarnation } => {
                Ok(NodeIdentity { name: name.clone(), incarnation: *incarnation, ends_unix: identity.ends_unix })
            }
            Principal::Operator(name) => {
                Err(Status::permission_denied(format!("operator {name} is no node: this service is for agents")))
            }
        },
        None => Err(Status::unauthenticated("this service needs a node's certificate: join first")),
    }
}

/// The operator who calls, by the certificate.
pub(super) fn operator(caller: &Caller, now_unix: i64) -> Result<String, Status> {
    match caller.identity.as_deref() {
        Some(identity) => match &identity.principal {
            Principal::Operator(_) if identity.has_ended(now_unix) => Err(Status::unauthenticated(
                "the certificate has ended: make a new one with `weft-controller operator`",
            )),
            Principal::Operator(name) => Ok(name.clone()),
            Principal::Node { name, .. } => Err(Status::permission_denied(format!(
                "node {name} is no operator: this service needs an operator certificate"
            ))),
        },
        None => Err(Status::unauthenticated(
            "this service needs an operator certificate, such as `weft-controller init` writes",
        )),
    }
}
