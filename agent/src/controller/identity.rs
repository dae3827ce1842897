//! The node's identity on disk: key, certificate, and the authority's certificate.
//!
//! Owns `<state-dir>/identity`, readable by its owner only. The key is written before it is used, so that a join whose
//! answer got lost repeats with the same key. Must never send the key anywhere.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use weft_core::types::NodeName;

/// A key with its certificate.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// The authority's certificate, DER.
    pub ca: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    valid: std::ops::Range<SystemTime>,
}

impl Identity {
    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// How long until it should be renewed: two thirds of the time that it had when it was stored, none once that is over.
    pub fn renew_in(&self, now: SystemTime) -> Duration {
        let life = self.valid.end.duration_since(self.valid.start).unwrap_or_default();
        (self.valid.start + life * 2 / 3).duration_since(now).unwrap_or_default()
    }

    /// True once it cannot be used any more.
    pub fn is_over(&self, now: SystemTime) -> bool {
        now >= self.valid.end
    }
}

/// Where identities are kept.
#[derive(Debug, Clone)]
pub(super) struct Vault {
    dir: PathBuf,
}

impl Vault {
    /// Below the agent's state directory, which must exist.
    pub(super) fn in_dir(state_dir: &Path) -> anyhow::Result<Self> {
        let dir = state_dir.join("identity");
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("identity directory {}: cannot be made", dir.display()))
            }
            _ => Ok(Self { dir }),
        }
    }

    /// The identity, or none before the first join.
    pub(super) fn load(&self) -> anyhow::Result<Option<Identity>> {
        let certificate = self.dir.join("node.crt");
        if !certificate.exists() {
            return Ok(None);
        }
        let remedy = "remove the file and join again with a new token";
        let read = |path: &Path| {
            CertificateDer::from_pem_file(path)
                .map_err(|error| anyhow::anyhow!("certificate {}: {error}; {remedy}", path.display()))
        };
        // Certificates begin in the past, for clocks that are behind: what counts is when it came.
        let stored = fs::metadata(&certificate).and_then(|metadata| metadata.modified()).ok();
        let certificate = read(&certificate)?;
        let mut valid = validity(&certificate)?;
        valid.start = stored.filter(|at| valid.contains(at)).unwrap_or(valid.start);
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_pair()?.serialize_der()));
        Ok(Some(Identity { certificate, ca: read(&self.dir.join("ca.crt"))?, key, valid }))
    }

    /// True where the identity on disk is this one; the key never changes under a certificate.
    pub(super) fn holds(&self, identity: &Identity) -> bool {
        let same = |file: &str, known: &CertificateDer<'_>| {
            CertificateDer::from_pem_file(self.dir.join(file)).is_ok_and(|stored| stored == *known)
        };
        same("node.crt", &identity.certificate) && same("ca.crt", &identity.ca)
    }

    /// The key, made and stored durably when there is none.
    pub(super) fn key_pair(&self) -> anyhow::Result<KeyPair> {
        let path = self.dir.join("node.key");
        match fs::read_to_string(&path) {
            Ok(pem) => KeyPair::from_pem(&pem).with_context(|| {
                format!("key {}: cannot be read; remove it and join again with a new token", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = KeyPair::generate().context("a new key cannot be made")?;
                self.replace(&path, key.serialize_pem().as_bytes())?;
                Ok(key)
            }
            Err(error) => Err(error).with_context(|| format!("key {}: cannot be read", path.display())),
        }
    }

    /// Stores what a join or a renewal brought: the authority first, the certificate last, because the certificate is what
    /// says that an identity is there.
    pub(super) fn store(&self, certificate: &[u8], ca: Option<&[u8]>) -> anyhow::Result<()> {
        let certificate = CertificateDer::from(certificate.to_vec());
        validity(&certificate)?;
        if let Some(ca) = ca {
            self.replace(&self.dir.join("ca.crt"), to_pem(ca).as_bytes())?;
        }
        self.replace(&self.dir.join("node.crt"), to_pem(&certificate).as_bytes())
    }

    /// Removes the certificate and its key: the next join makes new ones.
    pub(super) fn forget_key(&self) -> anyhow::Result<()> {
        for path in ["node.crt", "node.key"].map(|file| self.dir.join(file)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("{}: cannot be removed", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The id of the token that the identity came from.
    pub(super) fn token_id(&self) -> Option<String> {
        fs::read_to_string(self.dir.join("token-id")).ok()
    }

    /// Remembers the id of the token in use, so that only a new one leads to a new join.
    pub(super) fn store_token_id(&self, id: &str) -> anyhow::Result<()> {
        self.replace(&self.dir.join("token-id"), id.as_bytes())
    }

    fn replace(&self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        let temporary = path.with_extension("new");
        let write = || {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, path)?;
            fs::File::open(&self.dir)?.sync_all()
        };
        write().with_context(|| format!("{}: cannot be written", path.display()))
    }
}

/// A certificate signing request for `node` with `key`, DER.
pub(super) fn signing_request(node: &NodeName, key: &KeyPair) -> anyhow::Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, node.as_str());
    let request = params.serialize_request(key).context("the certificate request cannot be made")?;
    Ok(request.der().to_vec())
}

fn validity(certificate: &CertificateDer<'_>) -> anyhow::Result<std::ops::Range<SystemTime>> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).context("the node's certificate cannot be read")?;
    let at = |time: x509_parser::time::ASN1Time| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
    };
    Ok(at(parsed.validity().not_before)..at(parsed.validity().not_after))
}

fn to_pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

#[cfg(test)]
mod tests;
