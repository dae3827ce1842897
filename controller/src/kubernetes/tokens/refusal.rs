//! Why a token did not make a node.
//!
//! Owns the sentences: each names what was found, what is wanted and the remedy. Must never hold a token.

use weft_core::types::NodeName;

use super::{Asker, Unanswered};
use crate::rpc::{LoginError, TokenFault};

/// Why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefusal {
    /// Not a token of Kubernetes.
    #[error("this is no ServiceAccount token: show the content of the pod's projected token, unchanged")]
    Malformed,
    /// Its source had too many refused.
    #[error(
        "too many tokens {asker} were refused of late, and no more are looked at for a while: see why in the controller's log"
    )]
    TooMany {
        /// Who showed it.
        asker: Asker,
    },
    /// The API server has enough to do with other reviews.
    #[error("too many nodes join at once: try again in a moment")]
    Busy,
    /// Nobody can tell.
    #[error("the API server cannot be asked about the token, try again: {0}")]
    Unanswered(#[from] Unanswered),
    /// Expired, of another cluster, or of a pod that is gone.
    #[error(
        "the API server does not accept the token ({why}): the kubelet exchanges it before it expires, show the new one"
    )]
    Invalid {
        /// What the API server says.
        why: String,
    },
    /// Meant for somebody else.
    #[error("the token is not for audience {audience}: project one for it into the agent's pod")]
    OtherAudience {
        /// The one that is wanted.
        audience: String,
    },
    /// Another account's.
    #[error("the token is of {found}, and agents are {wanted}: run the agent with that ServiceAccount")]
    OtherAccount {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// It names no node.
    #[error(
        "the token says no node: it must be projected into a pod by a kubelet, and the API server must put the pod's node into tokens, as Kubernetes does from 1.30 on (feature ServiceAccountTokenPodNodeInfo)"
    )]
    Unbound,
    /// It speaks for another node.
    #[error("the token is of a pod on node {bound}, and speaks for that node only, not for {node}")]
    OtherNode {
        /// Who wants to join.
        node: NodeName,
        /// Whom the token is bound to.
        bound: String,
    },
}

impl TokenRefusal {
    /// One word for metrics.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::TooMany { .. } => "token_too_many",
            Self::Busy => "busy",
            Self::Unanswered(_) => "review_unanswered",
            Self::Invalid { .. } => "token_invalid",
            Self::OtherAudience { .. } => "token_other_audience",
            Self::OtherAccount { .. } => "token_other_account",
            Self::Unbound => "token_unbound",
            Self::OtherNode { .. } => "token_other_node",
        }
    }

    const fn fault(&self) -> TokenFault {
        match self {
            Self::Malformed => TokenFault::Malformed,
            Self::TooMany { .. } => TokenFault::TooMany,
            Self::Busy | Self::Unanswered(_) => TokenFault::Unjudged,
            Self::Invalid { .. } => TokenFault::Invalid,
            Self::OtherAudience { .. } | Self::OtherAccount { .. } | Self::Unbound | Self::OtherNode { .. } => {
                TokenFault::NotTheirs
            }
        }
    }
}

impl From<TokenRefusal> for LoginError {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Token { fault: refusal.fault(), text: refusal.to_string() }
    }
}
