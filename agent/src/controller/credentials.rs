//! What a node joins with, and whom it shows that to.
//!
//! Owns reading the files, at each use: a ServiceAccount token is exchanged in place by the kubelet, and so is the list of
//! authorities. Must never log a token.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// The largest file that is read, in bytes: tokens have about one KiB, authorities as many each.
const LARGEST_FILE: u64 = 256 << 10;

/// What proves who this node is, until it has a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A join token, good for one life of the node; none where the node has joined before.
    JoinToken(Option<PathBuf>),
    /// On Kubernetes: the token that the kubelet keeps fresh for this pod, good for every certificate.
    ServiceAccount {
        /// The file with the token.
        token: PathBuf,
        /// The PEM file with the authorities, one of which must vouch for the controller.
        authorities: PathBuf,
    },
}

impl Credentials {
    /// The authorities to trust, where they are given; else the one that the node joined with is.
    pub(super) fn authorities(&self) -> anyhow::Result<Option<Vec<CertificateDer<'static>>>> {
        match self {
            Self::JoinToken(_) => Ok(None),
            Self::ServiceAccount { authorities, .. } => read_authorities(authorities).map(Some),
        }
    }
}

/// A ServiceAccount token.
pub(super) fn read_service_account_token(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    let text = read(path).with_context(|| {
        format!(
            "ServiceAccount token {shown}: cannot be read; mount a projected token of audience weft-controller there"
        )
    })?;
    let token = text.trim();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
    ensure!(
        !token.is_empty() && token.bytes().all(is_token),
        "ServiceAccount token {shown}: holds no token; the kubelet puts one there, see the events of this pod"
    );
    Ok(token.to_owned())
}

fn read_authorities(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let waiting = "waiting for a controller to publish it (ConfigMap weft-ca)";
    let text = read(path).with_context(|| format!("authorities {shown}: cannot be read; {waiting}"))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all =
        all.map_err(|error| anyhow::anyhow!("authorities {shown}: not a list of certificates in PEM: {error}"))?;
    ensure!(!all.is_empty(), "authorities {shown}: there is none yet; {waiting}");
    Ok(all)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(content: &str, test: impl FnOnce(&Path)) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("weft-credentials-{}-{number}", std::process::id()));
        std::fs::write(&path, content).expect("a writable temp dir");
        test(&path);
        std::fs::remove_file(&path).expect("just written");
    }

    #[test]
    fn a_token_is_taken_without_its_line_end_and_never_shown() {
        with("eyJh.eyJz.c2ln_-\n", |path| {
            assert_eq!(read_service_account_token(path).expect("a token"), "eyJh.eyJz.c2ln_-");
        });
        for wrong in ["", "\n", "secret secret", "secret\u{0}"] {
            with(wrong, |path| {
                let error = format!("{:#}", read_service_account_token(path).expect_err("no token"));
                assert!(!error.contains("secret"), "{error}");
            });
        }
    }

    #[test]
    fn authorities_that_are_not_there_yet_are_waited_for() {
        let error = |path: &Path| format!("{:#}", read_authorities(path).expect_err("nobody to trust"));
        with("", |path| assert!(error(path).contains("weft-ca"), "{}", error(path)));
        assert!(error(Path::new("/nonexistent/ca.crt")).contains("weft-ca"));
        with("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", |path| {
            assert!(error(path).contains("PEM"), "{}", error(path));
        });
    }
}
