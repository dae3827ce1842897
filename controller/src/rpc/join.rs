//! JoinService: certificates for nodes.
//!
//! Owns the order: the cluster says yes and the store has confirmed it, only then a certificate is signed. Must never
//! log a token.

use tonic::{Request, Response, Status, async_trait};
use weft_core::types::NodeName;
use weft_proto::{
    convert::ConvertError,
    v1::{JoinRequest, JoinResponse, RenewRequest, RenewResponse, join_service_server::JoinService},
};

use super::{Context, status};
use crate::{
    cluster::{JoinAsk, Refusal},
    pki::{Issued, JoinToken, PkiError, PublicKey},
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
        let request = request.into_inner();
        let node: NodeName = request.node.parse().map_err(|error| ConvertError::new("node", error))?;
        let token: JoinToken = request.token.parse().map_err(|error| ConvertError::new("token", error))?;
        let key = public_key(&request.csr_der)?;
        if token.ca_fingerprint != self.0.authority.fingerprint() {
            let refusal = Refusal::TokenOtherCluster { node };
            self.0.metrics.join(refusal.label());
            return Err(refusal.into());
        }
        let ask = JoinAsk { node: node.clone(), token, key_hash: key.hash() };
        let incarnation = self.0.cluster.join(ask).await?;
        let issued = self.sign(&key, &node, incarnation)?;
        let ca_der = self.0.authority.certificate().to_vec();
        Ok(Response::new(JoinResponse { certificate_der: issued.der().to_vec(), ca_der }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let identity = status::node(&status::caller(request.extensions())?)?;
        let key = public_key(&request.get_ref().csr_der)?;
        let renewed = self.0.cluster.renewing(identity.clone()).await;
        self.0.metrics.renewal(renewed.as_ref().map_or_else(Refusal::label, |()| "ok"));
        renewed?;
        let issued = self.sign(&key, &identity.name, identity.incarnation)?;
        // The open stream need not end with the certificate that opened it.
        self.0.cluster.renewed(identity.name, identity.incarnation, issued.ends_unix).await;
        Ok(Response::new(RenewResponse { certificate_der: issued.der().to_vec() }))
    }
}
