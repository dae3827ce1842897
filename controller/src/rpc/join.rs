//! JoinService: certificates for nodes.
//!
//! Owns the order: whoever may say so says yes, only then a certificate is signed. With join tokens that is the cluster, once
//! the store has confirmed it; on Kubernetes the API server says whose a token is, and the cluster which life of the node
//! that is. Must never log a token.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};
use weft_core::types::NodeName;
use weft_proto::{
    convert::ConvertError,
    v1::{JoinRequest, JoinResponse, RenewRequest, RenewResponse, join_service_server::JoinService},
};

use super::{Context, late, status};
use crate::{
    clock,
    cluster::{JoinAsk, NodeIdentity, Refusal},
    kubernetes::tokens::{Asker, Reviewer},
    pki::{Issued, JoinToken, PkiError, PublicKey},
    tls::Caller,
};

/// What a node joins with.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// A join token of ours, for its first certificate; each further one by the certificate before.
    JoinTokens,
    /// On Kubernetes: the ServiceAccount token of its agent's pod, for each certificate.
    ServiceAccounts(Arc<Reviewer>),
}

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

    /// The life that a join token begins, or goes on.
    async fn by_join_token(&self, node: &NodeName, token: &str, key: &PublicKey) -> Result<u64, Status> {
        let token: JoinToken = token.parse().map_err(|error| ConvertError::new("token", error))?;
        if token.ca_fingerprint != self.0.authority.fingerprint() {
            let refusal = Refusal::TokenOtherCluster { node: node.clone() };
            self.0.metrics.join(refusal.label());
            return Err(refusal.into());
        }
        let ask = JoinAsk { node: node.clone(), token, key_hash: key.hash() };
        Ok(self.0.cluster.join(ask).await?)
    }

    /// The life of the node that a ServiceAccount token speaks for.
    async fn by_account(
        &self,
        reviewer: &Reviewer,
        node: &NodeName,
        token: &str,
        caller: &Caller,
    ) -> Result<u64, Status> {
        // A dual-stack listener shows IPv4 clients as mapped addresses.
        let source = caller.address.ip().to_canonical();
        let refused = |label: &'static str, why: &dyn std::fmt::Display| {
            self.0.metrics.join(label);
            tracing::warn!(%node, %source, "join refused: {why}");
        };
        let asker = asker(caller, |node| self.0.cluster.roll().check(node, clock::unix_seconds()).is_ok());
        let reviewed = reviewer.review(&asker, node, token).await.inspect_err(|why| refused(why.label(), why))?;
        let pod = reviewed.pod;
        let known = self.0.cluster.identify(node.clone(), reviewed.node_uid).await;
        let incarnation = known.inspect_err(|why| refused(why.label(), why))?;
        self.0.metrics.join("ok");
        tracing::debug!(%node, pod, incarnation, "joined");
        Ok(incarnation)
    }
}

/// Whom a refused token counts against. Pods speak from their node's address, and must not shut out its agent: a good
/// certificate counts for itself.
fn asker(caller: &Caller, is_member: impl FnOnce(&NodeIdentity) -> bool) -> Asker {
    match status::node(caller) {
        Ok(node) if is_member(&node) => Asker::Node(node.name, node.incarnation),
        _ => Asker::Address(caller.address.ip().to_canonical()),
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
        let incarnation = match &self.0.login {
            Login::JoinTokens => self.by_join_token(&node, &request.token, &key).await?,
            Login::ServiceAccounts(reviewer) => self.by_account(reviewer, &node, &request.token, &caller).await?,
        };
        let issued = self.sign(&key, &node, incarnation)?;
        if matches!(self.0.login, Login::ServiceAccounts(_)) {
            // Joining is how certificates are renewed there: neither an open stream nor its connection need end with the old one.
            if status::node(&caller).is_ok_and(|shown| (shown.name, shown.incarnation) == (node.clone(), incarnation)) {
                caller.signs.prolong(issued.ends_unix);
            }
            self.0.cluster.renewed(node, incarnation, issued.ends_unix).await;
        }
        let ca_der = self.0.authority.certificate().to_vec();
        let renewal_grace_seconds = self.0.grace.0.as_secs();
        Ok(Response::new(JoinResponse { certificate_der: issued.der().to_vec(), ca_der, renewal_grace_seconds }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        if let Login::ServiceAccounts(_) = self.0.login {
            let remedy = "join again with the ServiceAccount token of the agent's pod";
            return Err(Status::failed_precondition(format!("certificates are not renewed on Kubernetes: {remedy}")));
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
