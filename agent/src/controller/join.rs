//! Joining and renewing.

use std::time::Duration;

use anyhow::Context;
use tonic::{Request, transport::Channel};
use weft_core::types::NodeName;
use weft_proto::v1::{self, join_service_client::JoinServiceClient};

use super::{
    alert::tls_alert,
    doors::Elsewhere,
    identity::{Granted, Identity, Vault, signing_request},
    token::JoinToken,
};

/// What the controller is shown.
#[derive(Debug)]
pub(super) enum Proof {
    JoinToken(JoinToken),
    ServiceAccount(String),
}

/// Why a join failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    /// The controller said no: the same question will get the same answer.
    #[error("the controller refused to let node {node} join: {message}")]
    Refused {
        /// Which node.
        node: NodeName,
        /// What it said.
        message: String,
    },
    /// Worth another try.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl JoinError {
    /// As it was before, where it is no refusal: who looks for a cause must find it.
    pub(super) fn unwrapped(self) -> anyhow::Error {
        match self {
            Self::Other(error) => error,
            refused @ Self::Refused { .. } => refused.into(),
        }
    }
}

/// Trades the proof for a certificate and stores it.
pub(super) async fn join(
    channel: Channel,
    node: &NodeName,
    proof: &Proof,
    vault: &Vault,
) -> Result<Identity, JoinError> {
    let csr_der = signing_request(node, &vault.key_pair()?)?;
    let token = match proof {
        Proof::JoinToken(token) => token.secret_text().to_owned(),
        Proof::ServiceAccount(token) => token.clone(),
    };
    let request = v1::JoinRequest { node: node.to_string(), token, csr_der };
    let answer = JoinServiceClient::new(channel).join(Request::new(request)).await;
    let answer = answer.map_err(|status| refused(node, &status))?.into_inner();
    // The id first: should the power go between the two, the certificate is missing and the join repeats with the same key.
    if let Proof::JoinToken(token) = proof {
        vault.store_token_id(token.id())?;
    }
    let grace = Duration::from_secs(answer.renewal_grace_seconds);
    vault.store(&Granted { certificate: &answer.certificate_der, ca: Some(&answer.ca_der), grace })?;
    Ok(vault.load()?.context("the identity just stored is not there")?)
}

fn refused(node: &NodeName, status: &tonic::Status) -> JoinError {
    if let Some(elsewhere) = Elsewhere::of(status) {
        return JoinError::Other(elsewhere.into());
    }
    let message = status.message().to_owned();
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Unknown => {
            JoinError::Other(anyhow::anyhow!("join: {message}"))
        }
        _ => JoinError::Refused { node: node.clone(), message },
    }
}

/// Gets a new certificate for the same key and stores it.
pub(super) async fn renew(channel: Channel, node: &NodeName, vault: &Vault) -> anyhow::Result<Identity> {
    let csr_der = signing_request(node, &vault.key_pair()?)?;
    let answer = JoinServiceClient::new(channel)
        .renew(Request::new(v1::RenewRequest { csr_der }))
        .await
        .map_err(|status| {
            let why = tls_alert(&status).unwrap_or_else(|| status.message().to_owned());
            anyhow::anyhow!("the certificate of node {node} was not renewed: {why}")
        })?
        .into_inner();
    let grace = Duration::from_secs(answer.renewal_grace_seconds);
    vault.store(&Granted { certificate: &answer.certificate_der, ca: None, grace })?;
    vault.load()?.context("the identity just stored is not there")
}
