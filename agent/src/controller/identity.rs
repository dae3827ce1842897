//! The node's identity on disk: key, certificate, and the authority's certificate.
//!
//! Owns `<state-dir>/identity`, readable by its owner only. The key is written before it is used, so that a join whose
//! answer got lost repeats with the same key. Must never send the key anywhere.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tracing::{info, warn};
use weft_core::types::NodeName;

use crate::{
    disk_trouble::{self, DiskTrouble},
    durable,
};

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

    /// How long it can still be used.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.valid.end.duration_since(now).unwrap_or_default()
    }

    /// True once it cannot be used any more.
    pub fn is_over(&self, now: SystemTime) -> bool {
        now >= self.valid.end
    }
}

/// Where identities are kept. Clones share what could not be written yet.
#[derive(Debug, Clone)]
pub(super) struct Vault {
    dir: PathBuf,
    unsaved: Arc<Mutex<Option<Unsaved>>>,
    trouble: DiskTrouble,
}

/// A certificate that the disk did not take: it is used from here until it does.
#[derive(Debug, Clone)]
struct Unsaved {
    certificate: CertificateDer<'static>,
    ca: Option<CertificateDer<'static>>,
    came: SystemTime,
}

impl Vault {
    /// Below the agent's state directory, which must exist.
    pub(super) fn in_dir(state_dir: &Path) -> anyhow::Result<Self> {
        let dir = state_dir.join("identity");
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("identity directory {}: cannot be made", dir.display()))
            }
            _ => Ok(Self { dir, unsaved: Arc::default(), trouble: DiskTrouble::default() }),
        }
    }

    /// The same, which says where it cannot write.
    pub(super) fn telling(self, trouble: DiskTrouble) -> Self {
        Self { trouble, ..self }
    }

    fn unsaved(&self) -> MutexGuard<'_, Option<Unsaved>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True while something waits for [`Self::save_again`].
    pub(super) fn is_behind(&self) -> bool {
        self.unsaved().is_some()
    }

    /// Tries the disk again.
    pub(super) fn save_again(&self) {
        let Some(unsaved) = self.unsaved().clone() else { return };
        if self.write(&unsaved).is_ok() {
            self.unsaved().take();
            self.trouble.set(disk_trouble::IDENTITY, None);
            info!("the node's certificate is on disk again");
        }
    }

    fn write(&self, unsaved: &Unsaved) -> anyhow::Result<()> {
        if let Some(ca) = &unsaved.ca {
            self.replace(&self.dir.join("ca.crt"), to_pem(ca).as_bytes())?;
        }
        self.replace(&self.dir.join("node.crt"), to_pem(&unsaved.certificate).as_bytes())
    }

    /// What is used for want of a disk.
    fn unsaved_identity(&self, unsaved: Unsaved) -> anyhow::Result<Identity> {
        let mut valid = validity(&unsaved.certificate)?;
        valid.start = valid.start.max(unsaved.came);
        let ca = match unsaved.ca {
            Some(ca) => ca,
            None => read_certificate(&self.dir.join("ca.crt"))?,
        };
        Ok(Identity { certificate: unsaved.certificate, ca, key: self.private_key()?, valid })
    }

    fn private_key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key_pair()?.serialize_der())))
    }

    /// The identity, or none before the first join.
    pub(super) fn load(&self) -> anyhow::Result<Option<Identity>> {
        if let Some(unsaved) = self.unsaved().clone() {
            return self.unsaved_identity(unsaved).map(Some);
        }
        let certificate = self.dir.join("node.crt");
        if !certificate.exists() {
            return Ok(None);
        }
        // Certificates begin in the past, for clocks that are behind: what counts is when it came.
        let stored = fs::metadata(&certificate).and_then(|metadata| metadata.modified()).ok();
        let certificate = read_certificate(&certificate)?;
        let mut valid = validity(&certificate)?;
        valid.start = stored.filter(|at| valid.contains(at)).unwrap_or(valid.start);
        let ca = read_certificate(&self.dir.join("ca.crt"))?;
        Ok(Some(Identity { certificate, ca, key: self.private_key()?, valid }))
    }

    /// True where the identity on disk is this one; the key never changes under a certificate.
    pub(super) fn holds(&self, identity: &Identity) -> bool {
        if let Some(unsaved) = &*self.unsaved() {
            return unsaved.certificate == identity.certificate;
        }
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
    /// says that an identity is there. What the disk does not take is used from memory, and written once it does.
    pub(super) fn store(&self, certificate: &[u8], ca: Option<&[u8]>) -> anyhow::Result<()> {
        let certificate = CertificateDer::from(certificate.to_vec());
        validity(&certificate)?;
        let ca = ca.map(|ca| CertificateDer::from(ca.to_vec()));
        let new = Unsaved { certificate, ca, came: SystemTime::now() };
        let problem = self.write(&new).err().map(|error| {
            format!(
                "the node's certificate cannot be kept on disk: {error:#}; an agent that is started again would use the last one: make \
                 space in the state directory"
            )
        });
        problem.iter().for_each(|problem| warn!("{problem}"));
        *self.unsaved() = problem.is_some().then_some(new);
        self.trouble.set(disk_trouble::IDENTITY, problem);
        Ok(())
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
        durable::replace(path, content).with_context(|| format!("{}: cannot be written", path.display()))
    }
}

fn read_certificate(path: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let remedy = "remove the file and join again with a new token";
    CertificateDer::from_pem_file(path)
        .map_err(|error| anyhow::anyhow!("certificate {}: {error}; {remedy}", path.display()))
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
