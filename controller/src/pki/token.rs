//! Join tokens as text: `weft1.<id>.<secret>.<fingerprint of the CA>`.
//!
//! Owns the format. Must never print a secret: [`std::fmt::Debug`] leaves it out.

use std::{fmt, str::FromStr};

use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use crate::store::TokenId;

/// A token with its secret, as it is handed to an operator or comes from a joining node.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its public name.
    pub id: TokenId,
    secret: [u8; 32],
    /// SHA-256 of the CA certificate, DER: by it the joining node knows the controller.
    pub ca_fingerprint: [u8; 32],
}

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of the form.
    #[error(
        "the join token is not of the form weft1.ID.SECRET.FINGERPRINT: copy it whole, or make a new one with `weft token create`"
    )]
    Malformed,
    /// The system gave no randomness.
    #[error("the operating system gave no random numbers for a join token")]
    Random,
}

impl JoinToken {
    /// A new token of the cluster with this CA.
    pub fn generate(ca_fingerprint: [u8; 32]) -> Result<Self, TokenError> {
        let random = SystemRandom::new();
        let (mut id, mut secret) = ([0; 8], [0; 32]);
        random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| TokenError::Random)?;
        Ok(Self { id: TokenId(id), secret, ca_fingerprint })
    }

    /// The whole token with its secret, to be shown once.
    pub fn reveal(&self) -> String {
        format!("weft1.{}.{}.{}", self.id, to_hex(&self.secret), to_hex(&self.ca_fingerprint))
    }

    /// SHA-256 of the secret, which is what a store keeps.
    pub fn secret_hash(&self) -> [u8; 32] {
        secret_hash(&self.secret)
    }

    /// True where the secret hashes to `stored`; takes the same time wherever they differ.
    pub fn matches(&self, stored: &[u8; 32]) -> bool {
        let difference = self.secret_hash().iter().zip(stored).fold(0, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

/// SHA-256.
pub fn secret_hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('.');
        let mut part = || parts.next().ok_or(TokenError::Malformed);
        if part()? != "weft1" {
            return Err(TokenError::Malformed);
        }
        let id = part()?.parse().map_err(|()| TokenError::Malformed)?;
        let (secret, ca_fingerprint) = (from_hex(part()?)?, from_hex(part()?)?);
        if parts.next().is_some() {
            return Err(TokenError::Malformed);
        }
        Ok(Self { id, secret, ca_fingerprint })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Result<[u8; 32], TokenError> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(TokenError::Malformed);
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (nibble(digits[0])? << 4) | nibble(digits[1])?;
    }
    Ok(bytes)
}

const fn nibble(digit: u8) -> Result<u8, TokenError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_as_text_and_hides_in_logs() {
        let token = JoinToken::generate([7; 32]).expect("random numbers");
        let text = token.reveal();
        let read: JoinToken = text.parse().expect("our own text");
        assert_eq!(read, token);
        assert!(read.matches(&token.secret_hash()));
        assert!(!read.matches(&[0; 32]));
        assert!(!format!("{token:?}").contains(text.split('.').nth(2).expect("a secret")));
        assert_eq!(format!("{text}.x").parse::<JoinToken>(), Err(TokenError::Malformed));
        assert_eq!(text[..text.len() - 1].parse::<JoinToken>(), Err(TokenError::Malformed));
        assert_eq!(text.to_uppercase().parse::<JoinToken>(), Err(TokenError::Malformed));
    }
}
