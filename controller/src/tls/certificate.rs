//! The server's own certificate.
//!
//! Owns it, in memory only: a new one with a new key at every start, and again before it ends. Must never be written
//! to disk; the CA is all that has to be kept.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use rustls::{
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::pki::{Authority, generate_key};

/// How long one certificate is good for; a new one takes its place after half of it.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// The present certificate, exchanged without a restart.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    authority: Arc<Authority>,
    names: Vec<String>,
    present: RwLock<Arc<CertifiedKey>>,
}

impl ServerCertificate {
    /// Issues the first one.
    pub(crate) fn new(authority: Arc<Authority>, names: Vec<String>) -> anyhow::Result<Self> {
        let present = RwLock::new(Arc::new(issue(&authority, &names)?));
        Ok(Self { authority, names, present })
    }

    /// Exchanges the certificate in good time, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LIFETIME / 2).await;
            match issue(&self.authority, &self.names) {
                Ok(fresh) => *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh),
                Err(error) => tracing::error!("keeping the present server certificate: {error:#}"),
            }
        }
    }
}

fn issue(authority: &Authority, names: &[String]) -> anyhow::Result<CertifiedKey> {
    let key = generate_key()?;
    let certificate = authority.server(&key, names, LIFETIME)?;
    let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&der).context("the server's key does not load")?;
    // A joining node knows the CA by its fingerprint only, so the chain carries it.
    Ok(CertifiedKey::new(vec![certificate.der().clone(), authority.certificate().clone()], key))
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
