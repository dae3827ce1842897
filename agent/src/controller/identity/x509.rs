//! Certificates and requests for them, as they are on the wire and on disk.
//!
//! Owns reading and writing both. Must never judge a certificate: whether it counts is its controller's to say.

use std::{
    ops::Range,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use weft_core::types::NodeName;

pub(super) fn read_certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let remedy = "remove the file and join again with a new token";
    CertificateDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("certificate {}: {error}; {remedy}", path.display()))
}

/// A certificate signing request for `node` with `key`, DER.
pub(in crate::controller) fn signing_request(node: &NodeName, key: &KeyPair) -> anyhow::Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, node.as_str());
    let request = params.serialize_request(key).context("the certificate request cannot be made")?;
    Ok(request.der().to_vec())
}

pub(super) fn validity(certificate: &CertificateDer<'_>) -> anyhow::Result<Range<SystemTime>> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).context("the node's certificate cannot be read")?;
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
    };
    Ok(at(parsed.validity().not_before)..at(parsed.validity().not_after))
}

pub(super) fn to_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}
