//! What the authority's objects hold, and putting back what is absent there.
//!
//! Owns every read and write of the two objects. Each write is on condition of the version that was read. Must never change
//! a value that is there.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::PostParams;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use weft_api::names;

use super::{AuthorityError, CONFIG_MAP, Objects, SECRET};
use crate::{kubernetes::is_conflict, pki::Authority};

/// Certificate and key in PEM, each where it is there.
type Found = (Option<String>, Option<String>);

impl Objects {
    /// The authority; none where the Secret holds nothing yet.
    pub(super) async fn find(&self) -> Result<Option<Authority>, AuthorityError> {
        let secret = self.secret().await?;
        match self.found(&secret)? {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => self.authority(&certificate, &key).map(Some),
            (None, Some(_)) => Err(self.damaged(format!("{} is missing", names::CA_CERTIFICATE))),
            (Some(_), None) => Err(self.damaged(format!("{} is missing", names::CA_KEY))),
        }
    }

    /// Puts what is absent of `own` into the Secret; true where something was.
    pub(in super::super) async fn refill_secret(&self, own: &Authority) -> Result<bool, AuthorityError> {
        loop {
            let secret = self.secret().await?;
            let found = self.found(&secret)?;
            let (certificate, key) = own.pems();
            let whole = (found.0.clone().unwrap_or(certificate), found.1.clone().unwrap_or(key));
            // Half of another one does not go with half of ours.
            if self.authority(&whole.0, &whole.1)?.fingerprint() != own.fingerprint() {
                return Err(AuthorityError::Replaced { namespace: self.namespace.clone() });
            }
            if found.0.is_some() && found.1.is_some() {
                return Ok(false);
            }
            match self.write(secret, whole).await {
                Err(AuthorityError::Api { source, .. }) if is_conflict(&source) => {}
                written => return written.map(|()| true),
            }
        }
    }

    /// Puts the certificate into the ConfigMap where none is there; true where that was so.
    pub(super) async fn refill_map(&self, own: &Authority) -> Result<bool, AuthorityError> {
        loop {
            let failed = |error| self.failed("fill", CONFIG_MAP, error);
            let mut map = self.config_maps.get(names::CA).await.map_err(failed)?;
            let data = map.data.get_or_insert_default();
            if let Some(known) = data.get(names::CA_CERTIFICATE).filter(|text| !text.trim().is_empty()) {
                let names_own = names_own(known, own);
                return if names_own { Ok(false) } else { Err(self.misnamed()) };
            }
            data.insert(names::CA_CERTIFICATE.to_owned(), own.pems().0);
            match self.config_maps.replace(names::CA, &PostParams::default(), &map).await {
                Err(error) if is_conflict(&error) => {}
                written => return written.map(|_| true).map_err(failed),
            }
        }
    }

    fn misnamed(&self) -> AuthorityError {
        AuthorityError::Misnamed { namespace: self.namespace.clone() }
    }

    async fn secret(&self) -> Result<Secret, AuthorityError> {
        self.secrets.get(names::CA).await.map_err(|error| self.failed("read", SECRET, error))
    }

    async fn write(&self, mut secret: Secret, (certificate, key): (String, String)) -> Result<(), AuthorityError> {
        let data = secret.data.get_or_insert_default();
        data.insert(names::CA_CERTIFICATE.to_owned(), ByteString(certificate.into_bytes()));
        data.insert(names::CA_KEY.to_owned(), ByteString(key.into_bytes()));
        let written = self.secrets.replace(names::CA, &PostParams::default(), &secret).await;
        written.map(drop).map_err(|error| self.failed("fill", SECRET, error))
    }

    fn authority(&self, certificate: &str, key: &str) -> Result<Authority, AuthorityError> {
        Authority::from_pem(certificate, key).map_err(|error| self.damaged(error.to_string()))
    }

    fn found(&self, secret: &Secret) -> Result<Found, AuthorityError> {
        let text = |key: &str| {
            let value = secret.data.as_ref().and_then(|data| data.get(key));
            match value.map(|value| std::str::from_utf8(&value.0)) {
                None | Some(Ok("")) => Ok(None),
                Some(Ok(text)) => Ok(Some(text.to_owned())),
                Some(Err(_)) => Err(self.damaged(format!("{key} is no text"))),
            }
        };
        Ok((text(names::CA_CERTIFICATE)?, text(names::CA_KEY)?))
    }
}

/// True where agents that trust what this list names trust `own`.
fn names_own(list: &str, own: &Authority) -> bool {
    CertificateDer::pem_slice_iter(list.as_bytes()).flatten().any(|certificate| certificate == *own.certificate())
}
