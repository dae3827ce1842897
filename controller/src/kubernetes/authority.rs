//! The cluster's own certificate authority.
//!
//! Owns the Secret with its certificate and key, which whichever replica comes first fills, and the ConfigMap with the
//! certificate, which agents mount. Must never replace what is in the Secret: a second authority would lock every node
//! out.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client, api::PostParams};
use weft_api::names;

use super::{chain, is_conflict};
use crate::pki::Authority;

const SECRET: &str = "Secret weft-ca";
const CONFIG_MAP: &str = "ConfigMap weft-ca";

/// Certificate and key, both PEM.
type Pems = (String, String);

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
        "Secret {} in namespace {namespace} is damaged: {detail}; it was left as it is: restore {} and {} from a backup, or remove both, upon which a new authority is made and every node joins again",
        names::CA,
        names::CA_CERTIFICATE,
        names::CA_KEY
    )]
    Damaged { namespace: String, detail: String },
    /// It is another one than this replica serves with.
    #[error(
        "Secret {} in namespace {namespace} holds another authority than when this replica was started: it has to start again",
        names::CA
    )]
    Replaced { namespace: String },
    /// No new one could be made.
    #[error(transparent)]
    Made(#[from] crate::pki::PkiError),
}

impl AuthorityError {
    /// True where this replica is of no use any more, whoever leads.
    pub(super) const fn is_final(&self) -> bool {
        !matches!(self, Self::Api { .. })
    }
}

/// The two objects.
pub(super) struct Objects {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    namespace: String,
}

impl Objects {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        let (secrets, config_maps) = (Api::namespaced(client.clone(), namespace), Api::namespaced(client, namespace));
        Self { secrets, config_maps, namespace: namespace.to_owned() }
    }

    /// The authority, made where there is none yet; the ConfigMap says the same afterwards.
    pub(super) async fn ensure(&self) -> Result<Authority, AuthorityError> {
        let (certificate, key) = loop {
            let secret = self.secrets.get(names::CA).await.map_err(|error| self.failed("read", SECRET, error))?;
            if let Some(pems) = self.pems(&secret)? {
                break pems;
            }
            match self.fill(secret).await {
                Err(AuthorityError::Api { source, .. }) if is_conflict(&source) => {}
                filled => break filled?,
            }
        };
        let authority = Authority::from_pem(&certificate, &key).map_err(|error| self.damaged(error.to_string()))?;
        self.publish(&certificate).await?;
        Ok(authority)
    }

    /// Checks that `own` is still the cluster's authority, and that everybody who asks is told so.
    pub(super) async fn confirm(&self, own: &Authority) -> Result<(), AuthorityError> {
        if self.ensure().await?.fingerprint() != own.fingerprint() {
            return Err(AuthorityError::Replaced { namespace: self.namespace.clone() });
        }
        Ok(())
    }

    /// Lets everybody who asks know the certificate.
    async fn publish(&self, certificate: &str) -> Result<(), AuthorityError> {
        loop {
            let failed = |error| self.failed("fill", CONFIG_MAP, error);
            let mut map = self.config_maps.get(names::CA).await.map_err(failed)?;
            let data = map.data.get_or_insert_default();
            if data.get(names::CA_CERTIFICATE).is_some_and(|known| known == certificate) {
                return Ok(());
            }
            data.insert(names::CA_CERTIFICATE.to_owned(), certificate.to_owned());
            match self.config_maps.replace(names::CA, &PostParams::default(), &map).await {
                Err(error) if is_conflict(&error) => {}
                written => return written.map(drop).map_err(failed),
            }
        }
    }

    /// Makes an authority, which counts where nobody else has written the Secret meanwhile.
    async fn fill(&self, mut secret: Secret) -> Result<Pems, AuthorityError> {
        let (certificate, key) = Authority::generate()?;
        let data = secret.data.get_or_insert_default();
        data.insert(names::CA_CERTIFICATE.to_owned(), ByteString(certificate.clone().into_bytes()));
        data.insert(names::CA_KEY.to_owned(), ByteString(key.clone().into_bytes()));
        let written = self.secrets.replace(names::CA, &PostParams::default(), &secret).await;
        written.map_err(|error| self.failed("fill", SECRET, error))?;
        tracing::info!(namespace = self.namespace, "a new certificate authority is in Secret {}", names::CA);
        Ok((certificate, key))
    }

    /// What the Secret holds; none where it holds nothing yet.
    fn pems(&self, secret: &Secret) -> Result<Option<Pems>, AuthorityError> {
        let none = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&none);
        let text = |key: &str| match data.get(key).map(|value| std::str::from_utf8(&value.0)) {
            None | Some(Ok("")) => Ok(None),
            Some(Ok(text)) => Ok(Some(text.to_owned())),
            Some(Err(_)) => Err(self.damaged(format!("{key} is no text"))),
        };
        match (text(names::CA_CERTIFICATE)?, text(names::CA_KEY)?) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(self.damaged(format!("{} is missing", names::CA_CERTIFICATE))),
            (Some(_), None) => Err(self.damaged(format!("{} is missing", names::CA_KEY))),
        }
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
