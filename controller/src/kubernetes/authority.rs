//! The cluster's own certificate authority.
//!
//! Owns the Secret with its certificate and key, which the first leader fills, and the ConfigMap with the certificate, which
//! agents mount with the controllers' addresses. Whoever holds the authority puts back what is absent in them. Must never
//! replace what is there: a second authority would lock every node out.

mod addresses;
mod first;
mod guard;
mod refill;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use weft_api::{Vtep, names};

pub(super) use self::{
    first::first,
    guard::{Guard, put_back},
};

use super::chain;

const SECRET: &str = "Secret weft-ca";
const CONFIG_MAP: &str = "ConfigMap weft-ca";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthorityError {
    /// The API server did not do what it was asked; it may later.
    #[error(
        "cannot {operation} {object} in namespace {namespace}: {}; the chart makes it and lets this account at it",
        chain(.source)
    )]
    Api { operation: &'static str, object: &'static str, namespace: String, source: kube::Error },
    /// What the Secret holds is no authority.
    #[error(
        "Secret {} in namespace {namespace} is damaged: {detail}; it was left as it is: restore {} and {} from a backup, or make a new authority: scale Deployment {} to 0, empty Secret and ConfigMap {0}, and scale it back",
        names::CA,
        names::CA_CERTIFICATE,
        names::CA_KEY,
        names::CONTROLLER
    )]
    Damaged { namespace: String, detail: String },
    /// It is another one than this replica serves with.
    #[error(
        "Secret {} in namespace {namespace} holds another authority than this replica serves with; it was left as it is: if it is meant, restart Deployment {}, else put the old one back from a backup or empty the Secret",
        names::CA,
        names::CONTROLLER
    )]
    Replaced { namespace: String },
    /// The ConfigMap says another certificate.
    #[error(
        "ConfigMap {} in namespace {namespace} does not name the authority that this replica serves with, so that agents will not trust it; it was left as it is: remove its key {}, which is filled again",
        names::CA,
        names::CA_CERTIFICATE
    )]
    Misnamed { namespace: String },
    /// No new one could be made.
    #[error(transparent)]
    Made(#[from] crate::pki::PkiError),
}

impl AuthorityError {
    /// True where this replica is of no use any more, whoever leads.
    pub(super) const fn is_final(&self) -> bool {
        !matches!(self, Self::Api { .. } | Self::Misnamed { .. })
    }
}

/// The two objects, and what says whether nodes know an authority.
#[derive(Clone)]
pub(super) struct Objects {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    vteps: Api<Vtep>,
    namespace: String,
}

impl Objects {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        let (secrets, config_maps) =
            (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace));
        Self { secrets, config_maps, vteps: Api::all(client), namespace: namespace.to_owned() }
    }

    fn damaged(&self, detail: String) -> AuthorityError {
        AuthorityError::Damaged { namespace: self.namespace.clone(), detail }
    }

    fn failed(&self, operation: &'static str, object: &'static str, source: kube::Error) -> AuthorityError {
        AuthorityError::Api { operation, object, namespace: self.namespace.clone(), source }
    }
}

#[cfg(test)]
mod tests;
