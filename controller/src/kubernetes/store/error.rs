//! What goes wrong between the store and the API server.
//!
//! Owns the sentences that say so, and which of a [`StoreError`]'s kinds each is. Must never lose what the API server said.

use weft_api::names::CLUSTER;

use crate::store::StoreError;

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiProblem {
    /// It was not carried out, or nobody said so.
    #[error(
        "the Kubernetes API did not {operation}: {detail}; check that the API server answers, and the rights of weft-controller's account"
    )]
    Request { operation: String, detail: String },
    /// Somebody else wrote too: another leader, or a hand.
    #[error(
        "the Kubernetes API refused to {operation}, as things are not as this controller left them: {detail}; everything is read again"
    )]
    Conflict { operation: String, detail: String },
    /// The objects that an installation brings are not there.
    #[error(
        "store {store} has no ConfigMap {CLUSTER}: install Weft there with its Helm chart, or give the namespace of the one that is"
    )]
    NotInstalled { store: String },
}

impl From<ApiProblem> for StoreError {
    fn from(problem: ApiProblem) -> Self {
        match problem {
            ApiProblem::Request { .. } => Self::Unconfirmed(problem.into()),
            ApiProblem::Conflict { .. } => Self::Conflict(problem.into()),
            ApiProblem::NotInstalled { .. } => Self::Absent(problem.into()),
        }
    }
}

/// An API error with what was tried, and whether somebody else writes too.
pub(super) fn failed(operation: String, error: &kube::Error) -> StoreError {
    let problem = match error {
        kube::Error::Api(status) => {
            let detail = format!("{} (code {})", status.message, status.code);
            match status.code {
                409 | 422 => ApiProblem::Conflict { operation, detail },
                _ => ApiProblem::Request { operation, detail },
            }
        }
        other => ApiProblem::Request { operation, detail: other.to_string() },
    };
    problem.into()
}
