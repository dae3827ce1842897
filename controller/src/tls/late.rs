//! Certificates of nodes that have ended, shown for their renewal.
//!
//! Owns for how long after its end one still gets in, and that its connection is good for one renewal and nothing else. Must
//! never let in what was not good in its last moment, and nothing of an operator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::pki::{Identity, Principal};

/// For how long after its end a node's certificate is renewed; not at all where it is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grace(pub(crate) Duration);

impl Grace {
    /// Until when a certificate is renewed that ends at `ends_unix`.
    pub(crate) fn until(self, ends_unix: i64) -> i64 {
        ends_unix.saturating_add(i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX))
    }

    fn covers(self, identity: &Identity, now_unix: i64) -> bool {
        matches!(identity.principal, Principal::Node { .. }) && now_unix < self.until(identity.ends_unix)
    }
}

/// The one renewal that a connection with an ended certificate is good for.
#[derive(Debug, Default)]
pub(crate) struct OneRenewal(AtomicBool);

impl OneRenewal {
    /// True for the first to take it.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

/// Verifies certificates as the strict one does, and those that have ended as if it were their last moment.
#[derive(Debug)]
pub(super) struct LateVerifier {
    strict: Arc<dyn ClientCertVerifier>,
    grace: Grace,
}

impl LateVerifier {
    pub(super) const fn new(strict: Arc<dyn ClientCertVerifier>, grace: Grace) -> Self {
        Self { strict, grace }
    }

    /// The last moment of a certificate that has ended a short while ago.
    fn last_moment(&self, certificate: &[u8], now: UnixTime) -> Option<UnixTime> {
        let identity = Identity::of(certificate).ok()?;
        let now_unix = i64::try_from(now.as_secs()).ok()?;
        let end = u64::try_from(identity.ends_unix).ok()?;
        self.grace.covers(&identity, now_unix).then(|| UnixTime::since_unix_epoch(Duration::from_secs(end)))
    }
}

const fn has_ended(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }))
}

impl ClientCertVerifier for LateVerifier {
    fn offer_client_auth(&self) -> bool {
        self.strict.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.strict.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.strict.verify_client_cert(end_entity, intermediates, now).or_else(|error| {
            let last_moment = has_ended(&error).then(|| self.last_moment(end_entity, now)).flatten();
            // Everything once more: that it has ended says nothing of its signature, its authority and its usage.
            last_moment.map_or(Err(error), |then| self.strict.verify_client_cert(end_entity, intermediates, then))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.strict.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
