//! The certificate authority.
//!
//! Owns issuing: ECDSA P-256 throughout, random serial numbers, usages as narrow as they can be. Must never take
//! anything but the public key from a request.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, pem::PemObject};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use weft_core::types::NodeName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Principal, SERVER_NAME};

/// How long a CA lives.
const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Certificates begin this much in the past, for nodes whose clock is behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The request is not one.
    #[error(
        "the certificate signing request is not valid ({0}): send a PKCS#10 request in DER, signed with its own key"
    )]
    Request(rcgen::Error),
    /// Another kind of key.
    #[error("the certificate signing request has a key other than ECDSA P-256, the only kind Weft uses")]
    Key,
    /// The CA's files do not fit.
    #[error("the certificate authority is not usable: {0}: restore ca.crt and ca.key from a backup")]
    Authority(String),
    /// Signing failed.
    #[error("the certificate authority could not sign: {0}")]
    Sign(rcgen::Error),
}

/// A public key that was proven to belong to whoever asked.
#[derive(Debug, Clone)]
pub struct PublicKey(rcgen::PublicKey);

impl PublicKey {
    /// Takes the key of a PKCS#10 request and verifies that the request is signed with it.
    pub fn of_request(csr_der: &[u8]) -> Result<Self, PkiError> {
        let der = CertificateSigningRequestDer::from(csr_der);
        let request = CertificateSigningRequestParams::from_der(&der).map_err(PkiError::Request)?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(PkiError::Key);
        }
        Ok(Self(request.public_key))
    }

    /// SHA-256 of the key, by which a join token is bound to it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.der_bytes()).into()
    }
}

/// A new certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    certificate: rcgen::Certificate,
    /// When it ends, Unix time in seconds.
    pub ends_unix: i64,
}

impl Issued {
    /// The certificate, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        self.certificate.der()
    }

    /// The certificate, PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }
}

/// A new ECDSA P-256 key.
pub fn generate_key() -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(PkiError::Sign)
}

/// The authority with its key.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    ends_unix: i64,
}

impl Authority {
    /// A new authority, with its certificate and key in PEM.
    pub fn generate() -> Result<(String, String), PkiError> {
        let key = generate_key()?;
        let mut params = params("Weft CA", CA_LIFETIME, OffsetDateTime::now_utc())?;
        // No intermediates: nothing this authority signs may sign in turn.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(PkiError::Sign)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Reads an authority from the PEM that [`Authority::generate`] wrote.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let wrong = |what: &str| PkiError::Authority(what.to_owned());
        let key = KeyPair::from_pem(key_pem).map_err(|error| wrong(&format!("its key cannot be read ({error})")))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| wrong(&format!("its certificate cannot be read ({error:?})")))?;
        let ends_unix = {
            let (_, parsed) =
                X509Certificate::from_der(&certificate).map_err(|_| wrong("its certificate cannot be parsed"))?;
            if parsed.public_key().raw != key.subject_public_key_info() {
                return Err(wrong("its key does not belong to its certificate"));
            }
            if !parsed.is_ca() {
                return Err(wrong("its certificate is not a CA's"));
            }
            parsed.validity().not_after.timestamp()
        };
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self { issuer, certificate, certificate_pem: certificate_pem.to_owned(), ends_unix })
    }

    /// The authority's certificate, DER.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate and key in PEM, to be put back where they got lost.
    pub(crate) fn pems(&self) -> (String, String) {
        (self.certificate_pem.clone(), self.issuer.key().serialize_pem())
    }

    /// SHA-256 of the authority's certificate, DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// A certificate for a controller's gRPC server; `names` are accepted beside [`SERVER_NAME`].
    pub fn server(&self, key: &KeyPair, names: &[String], lifetime: Duration) -> Result<Issued, PkiError> {
        let mut names: Vec<String> = names.to_vec();
        names.push(SERVER_NAME.to_owned());
        let sans = CertificateParams::new(names).map_err(PkiError::Sign)?.subject_alt_names;
        self.issue(SERVER_NAME, sans, ExtendedKeyUsagePurpose::ServerAuth, key, lifetime)
    }

    /// A certificate for a node in one of its lives.
    pub fn node(
        &self,
        key: &PublicKey,
        name: &NodeName,
        incarnation: u64,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        let principal = Principal::Node { name: name.clone(), incarnation };
        // A common name has at most 64 characters (RFC 5280, A.1), a node name 253; the identity is the URI.
        let common = name.as_str().get(..64).unwrap_or(name.as_str());
        self.client(common, &principal, &key.0, lifetime)
    }

    /// A certificate for an operator.
    pub fn operator(&self, key: &KeyPair, name: &str, lifetime: Duration) -> Result<Issued, PkiError> {
        self.client(name, &Principal::Operator(name.to_owned()), key, lifetime)
    }

    fn client(
        &self,
        common: &str,
        principal: &Principal,
        key: &impl PublicKeyData,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        let uri = principal.uri().as_str().try_into().map_err(PkiError::Sign)?;
        self.issue(common, vec![SanType::URI(uri)], ExtendedKeyUsagePurpose::ClientAuth, key, lifetime)
    }

    fn issue(
        &self,
        common: &str,
        sans: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        key: &impl PublicKeyData,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        let now = OffsetDateTime::now_utc();
        let mut params = params(common, lifetime, now)?;
        params.not_after = params.not_after.min(from_unix(self.ends_unix)?);
        params.subject_alt_names = sans;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let ends_unix = params.not_after.unix_timestamp();
        let certificate = params.signed_by(key, &self.issuer).map_err(PkiError::Sign)?;
        Ok(Issued { certificate, ends_unix })
    }
}

fn from_unix(seconds: i64) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| PkiError::Authority(error.to_string()))
}

fn params(common: &str, lifetime: Duration, now: OffsetDateTime) -> Result<CertificateParams, PkiError> {
    let mut serial = [0; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| PkiError::Sign(rcgen::Error::RemoteKeyError))?;
    // Positive, as RFC 5280 wants it (4.1.2.2).
    serial[0] &= 0x7f;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = subject;
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
    Ok(params)
}
