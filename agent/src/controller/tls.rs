//! TLS towards the controller.
//!
//! Owns whom the agent trusts: the authorities it is given; or, with a join token, a chain that holds the certificate of the
//! token's fingerprint, and from then on the authority it got. The controller's name is fixed, whatever address it is reached by.

use std::sync::Arc;

use anyhow::Context;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, ring::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest as _, Sha256};
use weft_proto::connect::{for_http2, tls_builder};

use super::identity::Identity;

/// Sessions that are remembered: of one server name there is one that counts, the latest.
const SESSIONS: usize = 8;

/// The configuration of a node that has its identity. It remembers sessions: who keeps it connects again at a fraction
/// of the cost, for itself and for a controller that all its agents come back to at once.
pub(super) fn for_identity(
    identity: &Identity,
    trusted: &[CertificateDer<'static>],
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut config = tls_builder()
        .with_root_certificates(roots(trusted)?)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key())
        .context("the node's certificate and key cannot be used; join again with a new token")?;
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(for_http2(config))
}

/// The configuration of a node that has no identity yet, and knows the authorities.
pub(super) fn for_authorities(trusted: &[CertificateDer<'static>]) -> anyhow::Result<Arc<ClientConfig>> {
    Ok(for_http2(tls_builder().with_root_certificates(roots(trusted)?).with_no_client_auth()))
}

fn roots(trusted: &[CertificateDer<'static>]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for authority in trusted {
        roots.add(authority.clone()).context(
            "an authority's certificate cannot be used; join again with a new token, or mend ConfigMap weft-ca",
        )?;
    }
    Ok(roots)
}

/// The configuration of a node that has a token only.
pub(super) fn for_fingerprint(ca: [u8; 32]) -> Arc<ClientConfig> {
    let verifier = Pinned { ca, algorithms: default_provider().signature_verification_algorithms };
    let config = tls_builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    for_http2(config)
}

/// Trusts a chain in which the certificate of one fingerprint is the root.
#[derive(Debug)]
struct Pinned {
    ca: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |certificate: &&CertificateDer<'_>| Sha256::digest(certificate).as_slice() == self.ca;
        let ca = intermediates.iter().find(is_pinned).ok_or_else(|| {
            rustls::Error::General("the controller is not the one that made this token (its authority differs)".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
