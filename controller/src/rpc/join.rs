//! JoinService: certificates for nodes.
//!
//! Owns the order: whoever may say so says yes, only then a certificate is signed. Who may is for the [`Login`](super::Login) to tell. Must never
//! log a token.

use tonic::{Request, Response, Status, async_trait};
use weft_core::types::NodeName;
use weft_proto::{
    convert::ConvertError,
    v1::{JoinRequest, JoinResponse, RenewRequest, RenewResponse, join_service_server::JoinService},
};

use super::{Attempt, Context, Renewal, late, status};
use crate::{
    clock,
    cluster::Refusal,
    pki::{Issued, PkiError, PublicKey},
};

#[derive(Debug)]
pub(super) struct Join(pub(super) Context);

fn public_key(csr_der: &[u8]) -> Result<PublicKey, Status> {
    PublicKey::of_request(csr_der).map_err(|error| Status::invalid_argument(error.to_string()))
}

impl Join {
    fn sign(&self, key: &PublicKey, node: &NodeName, incarnation: u64) -> Result<Issued, Status> {
        let signed = self.0.authority.node(key, node, incarnation, self.0.certificate_lifetime);
        signed.map_err(|error: PkiError| Status::internal(error.to_string()))
    }
}

#[async_trait]
impl JoinService for Join {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let caller = status::caller(request.extensions())?;
        late::refuse(&caller, clock::unix_seconds())?;
        let request = request.into_inner();
        let node: NodeName = request.node.parse().map_err(|error| ConvertError::new("node", error))?;
        let key = public_key(&request.csr_der)?;
        // A dual-stack listener shows IPv4 clients as mapped addresses.
        let source = caller.address.ip().to_canonical();
        let shown = status::node(&caller).ok();
        let attempt = Attempt { node: &node, token: &request.token, key: &key, shown: shown.as_ref(), source };
        let incarnation = self.0.login.log_in(attempt).await?;
        let issued = self.sign(&key, &node, incarnation)?;
        if self.0.login.renewal() != Renewal::ByCertificate {
            // This is how certificates are renewed there: neither an open stream nor its connection need end with the old one.
            if shown.is_some_and(|shown| (shown.name, shown.incarnation) == (node.clone(), incarnation)) {
                caller.signs.prolong(issued.ends_unix);
            }
            self.0.cluster.renewed(node, incarnation, issued.ends_unix).await;
        }
        let ca_der = self.0.authority.certificate().to_vec();
        let renewal_grace_seconds = self.0.grace.0.as_secs();
        Ok(Response::new(JoinResponse { certificate_der: issued.der().to_vec(), ca_der, renewal_grace_seconds }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        if let Renewal::ByLogin { refusal } = self.0.login.renewal() {
            return Err(Status::failed_precondition(refusal));
        }
        let caller = status::caller(request.extensions())?;
        let key = public_key(&request.get_ref().csr_der)?;
        let late::Renewing { identity, is_late } = late::renewing(&caller, &key, self.0.grace, clock::unix_seconds())?;
        let renewed = match self.0.cluster.roll().check(&identity, clock::unix_seconds()) {
            Ok(()) => self.0.cluster.renewing(identity.clone()).await,
            // Without the cluster's task, which has better to do.
            refused => refused,
        };
        let granted = if is_late { "late" } else { "ok" };
        self.0.metrics.renewal(renewed.as_ref().map_or_else(Refusal::label, |()| granted));
        renewed?;
        let issued = self.sign(&key, &identity.name, identity.incarnation)?;
        if is_late {
            tracing::info!(node = %identity.name, source = %caller.address.ip().to_canonical(), "renewed a certificate that had ended");
        }
        // Neither the open stream nor its connection need end with the certificate that opened them.
        caller.signs.prolong(issued.ends_unix);
        self.0.cluster.renewed(identity.name, identity.incarnation, issued.ends_unix).await;
        let renewal_grace_seconds = self.0.grace.0.as_secs();
        Ok(Response::new(RenewResponse { certificate_der: issued.der().to_vec(), renewal_grace_seconds }))
    }
}

#[cfg(test)]
mod tests;
