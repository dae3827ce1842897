//! The node's identity on disk: key, certificate, and the authority's certificate.
//!
//! Owns `<state-dir>/identity`, readable by its owner only. The key is written before it is used, so that a join whose
//! answer got lost repeats with the same key. Must never send the key anywhere.

mod x509;

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use tracing::{info, warn};

pub(super) use self::x509::signing_request;
use self::x509::{read_certificate, to_pem, validity};
use super::expiry::Deadlines;
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
    /// How long after its end it is still renewed, as the controller said that issued it.
    grace: Duration,
}

impl Identity {
    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// How long until it should be renewed: two thirds of the time that it had when it was stored, none once that is over.
    pub fn renew_in(&self, now: SystemTime) -> Duration {
        self.due().duration_since(now).unwrap_or_default()
    }

    fn due(&self) -> SystemTime {
        let life = self.valid.end.duration_since(self.valid.start).unwrap_or_default();
        self.valid.start + life * 2 / 3
    }

    /// What becomes of it when.
    pub fn deadlines(&self) -> Deadlines {
        let end = self.valid.end;
        Deadlines { due: self.due(), end, lost: end.checked_add(self.grace).unwrap_or(end) }
    }

    /// How long it can still be used.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.valid.end.duration_since(now).unwrap_or_default()
    }

    /// True once it cannot be used any more, but to renew it.
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
    grace: Duration,
    came: SystemTime,
}

/// What a join or a renewal brought.
#[derive(Debug)]
pub(super) struct Granted<'a> {
    /// DER.
    pub(super) certificate: &'a [u8],
    /// The authority's, DER, where it was told.
    pub(super) ca: Option<&'a [u8]>,
    /// How long after its end the certificate is still renewed.
    pub(super) grace: Duration,
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
        self.replace(&self.grace_file(), unsaved.grace.as_secs().to_string().as_bytes())?;
        self.replace(&self.dir.join("node.crt"), to_pem(&unsaved.certificate).as_bytes())
    }

    fn grace_file(&self) -> PathBuf {
        self.dir.join("renewal-grace")
    }

    /// None where a controller of 0.1 issued the certificate, which told nothing.
    fn grace(&self) -> Duration {
        let seconds = fs::read_to_string(self.grace_file()).ok().and_then(|text| text.parse().ok());
        Duration::from_secs(seconds.unwrap_or_default())
    }

    /// What is used for want of a disk.
    fn unsaved_identity(&self, unsaved: Unsaved) -> anyhow::Result<Identity> {
        let mut valid = validity(&unsaved.certificate)?;
        valid.start = valid.start.max(unsaved.came);
        let ca = match unsaved.ca {
            Some(ca) => ca,
            None => read_certificate(&self.dir.join("ca.crt"))?,
        };
        let (certificate, grace) = (unsaved.certificate, unsaved.grace);
        Ok(Identity { certificate, ca, key: self.private_key()?, valid, grace })
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
        Ok(Some(Identity { certificate, ca, key: self.private_key()?, valid, grace: self.grace() }))
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
    pub(super) fn store(&self, granted: &Granted<'_>) -> anyhow::Result<()> {
        let certificate = CertificateDer::from(granted.certificate.to_vec());
        validity(&certificate)?;
        let ca = granted.ca.map(|ca| CertificateDer::from(ca.to_vec()));
        let new = Unsaved { certificate, ca, grace: granted.grace, came: SystemTime::now() };
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

#[cfg(test)]
mod tests;
