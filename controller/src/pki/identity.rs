//! Who a certificate speaks for.
//!
//! Owns the URI in the subject alternative name: `weft://node/NAME?incarnation=N` or `weft://operator/NAME`. Must never
//! look at the common name: it is for people.

use sha2::{Digest, Sha256};
use weft_core::types::NodeName;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// A node in one of its lives.
    Node {
        /// Its name.
        name: NodeName,
        /// Which life of that name.
        incarnation: u64,
    },
    /// A person or a tool of theirs.
    Operator(String),
}

impl Principal {
    /// The URI that names it in a certificate.
    pub fn uri(&self) -> String {
        match self {
            Self::Node { name, incarnation } => format!("weft://node/{name}?incarnation={incarnation}"),
            Self::Operator(name) => format!("weft://operator/{name}"),
        }
    }

    fn parse(uri: &str) -> Option<Self> {
        if let Some(rest) = uri.strip_prefix("weft://node/") {
            let (name, incarnation) = rest.split_once("?incarnation=")?;
            let principal = Self::Node { name: name.parse().ok()?, incarnation: incarnation.parse().ok()? };
            // One spelling per identity: leading zeros or signs would be a second one.
            return (principal.uri() == uri).then_some(principal);
        }
        let name = uri.strip_prefix("weft://operator/")?;
        is_operator_name(name).then(|| Self::Operator(name.to_owned()))
    }
}

/// True where `name` can be an operator's: letters, digits, '-', '_', '.' and '@', at most 64.
pub(crate) fn is_operator_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(known)
}

/// A client's certificate, as far as it matters after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it speaks for.
    pub principal: Principal,
    /// When it ends, Unix time in seconds. Checked again after the handshake: a resumed session, or a stream that
    /// stays open, would outlive it.
    pub ends_unix: i64,
    /// SHA-256 of its public key, as [`super::PublicKey::hash`] tells it of a request.
    pub key_hash: [u8; 32],
}

/// A certificate that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate.
    #[error("the client certificate cannot be parsed")]
    Malformed,
    /// No identity, or several.
    #[error("the client certificate has {0} weft:// identities in its subject alternative name, and needs exactly one")]
    Ambiguous(usize),
}

impl Identity {
    /// True once it is over.
    pub const fn has_ended(&self, now_unix: i64) -> bool {
        self.ends_unix <= now_unix
    }

    /// Reads a certificate whose signature has been verified already.
    pub fn of(certificate_der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) = X509Certificate::from_der(certificate_der).map_err(|_| IdentityError::Malformed)?;
        let names = certificate.subject_alternative_name().map_err(|_| IdentityError::Malformed)?;
        let mut found =
            names.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
                GeneralName::URI(uri) => Principal::parse(uri),
                _ => None,
            });
        match (found.next(), found.count()) {
            (Some(principal), 0) => Ok(Self {
                principal,
                ends_unix: certificate.validity().not_after.timestamp(),
                key_hash: Sha256::digest(&certificate.public_key().subject_public_key.data).into(),
            }),
            (first, more) => Err(IdentityError::Ambiguous(usize::from(first.is_some()) + more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_spelling() {
        let node = Principal::parse("weft://node/n1?incarnation=7").expect("a node");
        assert_eq!(node, Principal::Node { name: "n1".parse().expect("a name"), incarnation: 7 });
        assert_eq!(Principal::parse("weft://operator/admin"), Some(Principal::Operator("admin".into())));
        for bad in [
            "weft://node/n1",
            "weft://node/n1?incarnation=07",
            "weft://node/n1?incarnation=+7",
            "weft://node/N1?incarnation=7",
            "weft://node/n1?incarnation=7&x=1",
            "weft://operator/",
            "weft://operator/a/b",
            "https://node/n1?incarnation=7",
        ] {
            assert_eq!(Principal::parse(bad), None, "{bad} was accepted");
        }
    }
}
