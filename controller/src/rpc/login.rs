//! How a node says who it is when it joins.
//!
//! Owns the edge [`Login`], and the one that needs nobody else: join tokens of the controller's own. Must never log a token, nor know
//! what other proof there is.

use std::{net::IpAddr, sync::Arc};

use futures::future::{BoxFuture, FutureExt as _};
use tonic::{Code, Status};
use weft_core::types::NodeName;
use weft_proto::convert::ConvertError;

use crate::{
    cluster::{Cluster, JoinAsk, NodeIdentity, Refusal},
    metrics::Metrics,
    pki::{Authority, JoinToken, PublicKey},
};

/// Who wants to join, and by what.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) node: &'a NodeName,
    pub(crate) token: &'a str,
    /// The key that the certificate will hold.
    pub(crate) key: &'a PublicKey,
    /// The node whose certificate the connection shows, which may be over, or another one's.
    pub(crate) shown: Option<&'a NodeIdentity>,
    /// Where the request comes from; an IPv4 address as such.
    pub(crate) source: IpAddr,
}

/// How the next certificate is come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// By the one before.
    ByCertificate,
    /// By joining again.
    ByLogin {
        /// What an agent hears that asks for the other way.
        refusal: &'static str,
    },
}

/// Whoever can tell which node a token speaks for.
pub(crate) trait Login: std::fmt::Debug + Send + Sync {
    /// The life of the node that the attempt begins, or goes on. What comes of it is counted in the metrics.
    fn log_in<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<u64, LoginError>>;

    /// How a node that has logged in stays one.
    fn renewal(&self) -> Renewal;
}

/// Why a node may not join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// The cluster says so.
    #[error(transparent)]
    Cluster(#[from] Refusal),
    /// The token does not say what it must.
    #[error("{text}")]
    Token {
        /// In one word.
        fault: TokenFault,
        /// In a sentence with a remedy.
        text: String,
    },
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// It is none.
    Malformed,
    /// It does not count, or not any more.
    Invalid,
    /// It speaks for somebody else.
    NotTheirs,
    /// Too many were refused of late.
    TooMany,
    /// Nobody can tell at present.
    Unjudged,
}

impl From<LoginError> for Status {
    fn from(error: LoginError) -> Self {
        let (fault, text) = match error {
            LoginError::Cluster(refusal) => return refusal.into(),
            LoginError::Token { fault, text } => (fault, text),
        };
        let code = match fault {
            TokenFault::Malformed => Code::InvalidArgument,
            TokenFault::Invalid => Code::Unauthenticated,
            TokenFault::NotTheirs => Code::PermissionDenied,
            TokenFault::TooMany => Code::ResourceExhausted,
            // Nobody said no: worth another try.
            TokenFault::Unjudged => Code::Unavailable,
        };
        Self::new(code, text)
    }
}

/// By a join token for the first certificate, and by the certificate before for each further one.
#[derive(Debug)]
pub(crate) struct JoinTokens {
    pub(crate) cluster: Cluster,
    pub(crate) authority: Arc<Authority>,
    pub(crate) metrics: Arc<Metrics>,
}

impl JoinTokens {
    async fn join(&self, attempt: Attempt<'_>) -> Result<u64, LoginError> {
        let node = attempt.node.clone();
        let token: JoinToken = attempt.token.parse().map_err(|error| {
            let text = ConvertError::new("token", error).to_string();
            LoginError::Token { fault: TokenFault::Malformed, text }
        })?;
        if token.ca_fingerprint != self.authority.fingerprint() {
            let refusal = Refusal::TokenOtherCluster { node };
            self.metrics.join(refusal.label());
            return Err(refusal.into());
        }
        Ok(self.cluster.join(JoinAsk { node, token, key_hash: attempt.key.hash() }).await?)
    }
}

impl Login for JoinTokens {
    fn log_in<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Result<u64, LoginError>> {
        self.join(attempt).boxed()
    }

    fn renewal(&self) -> Renewal {
        Renewal::ByCertificate
    }
}
