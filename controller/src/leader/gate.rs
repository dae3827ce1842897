//! The one gate that stays open while leaders come and go.
//!
//! Owns what every request meets first: the services of the leader where this controller leads, and otherwise a refusal
//! that names who does. Must never let a request through to services that have been taken down.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use futures::future::{BoxFuture, FutureExt as _};
use http::{Request, Response};
use tokio::sync::watch;
use tonic::{Status, service::Routes};
use tower::Service;
use weft_proto::leader::not_leading;

use super::Fence;
use crate::{cluster::Roll, pki::Principal};

const OVER: &str = "this controller's time as the leader is over";

/// What this controller is at present.
#[derive(Debug)]
pub(crate) enum Role {
    /// Neither of the two below; the text says why not.
    Starting(String),
    /// Ready to lead.
    Standby(Standby),
    /// The leader, with its services and the members, for as long as the fence holds.
    Leading(Routes, Fence, Arc<Roll>),
}

/// What a standby knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standby {
    /// Who leads; none where nobody is known to.
    pub(crate) leader: Option<String>,
    /// Where agents reach it.
    pub(crate) address: Option<SocketAddr>,
    /// What keeps this controller from knowing.
    pub(crate) trouble: Option<String>,
}

impl Role {
    /// What probes are told: an error where this controller is of no use to anybody.
    pub(crate) fn readiness(&self) -> Result<String, String> {
        match self {
            Self::Leading(_, fence, _) if fence.holds() => Ok("ready".to_owned()),
            Self::Leading(..) => Err(OVER.to_owned()),
            Self::Standby(Standby { leader: Some(leader), .. }) => Ok(format!("standby of {leader}")),
            Self::Standby(Standby { trouble: Some(trouble), .. }) => Err(trouble.clone()),
            Self::Standby(_) => Err("no controller leads at present".to_owned()),
            Self::Starting(why) => Err(why.clone()),
        }
    }

    /// Whether a certificate counts: who does not lead cannot tell, and refuses everybody anyway.
    pub(crate) fn welcomes(&self, principal: &Principal) -> bool {
        match self {
            Self::Leading(_, fence, roll) if fence.holds() => roll.counts(principal),
            _ => true,
        }
    }

    /// The services, or a refusal that says who has them.
    fn services(&self) -> Result<&Routes, Status> {
        match self {
            Self::Leading(services, fence, _) if fence.holds() => Ok(services),
            Self::Leading(..) => Err(not_leading(OVER, None)),
            Self::Starting(why) => Err(not_leading(format!("this controller does not serve yet: {why}"), None)),
            Self::Standby(Standby { leader: Some(leader), address, .. }) => {
                let place = address.map(|address| format!(" at {address}")).unwrap_or_default();
                Err(not_leading(format!("this controller is a standby: {leader}{place} leads"), *address))
            }
            Self::Standby(_) => Err(not_leading("this controller is a standby, and none leads at present", None)),
        }
    }
}

/// The services of whoever leads.
#[derive(Debug, Clone)]
pub(crate) struct LeaderGate(pub(crate) watch::Receiver<Role>);

impl LeaderGate {
    /// As services that a server can be given.
    pub(crate) fn routes(self) -> Routes {
        axum::Router::new().fallback_service(self).into()
    }
}

impl Service<Request<Body>> for LeaderGate {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.0.borrow().services() {
            Ok(services) => services.clone().call(request).boxed(),
            Err(refusal) => futures::future::ready(Ok(refusal.into_http())).boxed(),
        }
    }
}

#[cfg(test)]
mod tests;
