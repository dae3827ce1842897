//! Join tokens as an agent reads them.

use std::{fmt, path::Path, str::FromStr};

use anyhow::Context;

/// A join token: `weft1.ID.SECRET.CA-FINGERPRINT`. Printing it never shows the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    text: String,
    ca_fingerprint: [u8; 32],
}

impl JoinToken {
    /// Reads a token file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("token file {}: cannot be read; make one with `weft token create NODE`", path.display())
        })?;
        text.trim().parse().with_context(|| format!("token file {}", path.display()))
    }

    /// The whole token, for the controller only.
    pub fn secret_text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the certificate authority's certificate (DER).
    pub const fn ca_fingerprint(&self) -> [u8; 32] {
        self.ca_fingerprint
    }

    /// The part that names the token and is no secret.
    pub fn id(&self) -> &str {
        self.text.split('.').nth(1).expect("checked when it was read")
    }
}

impl FromStr for JoinToken {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let wrong =
            || anyhow::anyhow!("this is no join token: make one with `weft token create NODE` and copy it whole");
        let parts: Vec<&str> = text.split('.').collect();
        let [version, id, secret, fingerprint] = parts[..] else { return Err(wrong()) };
        let is_hex = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
        if version != "weft1" || !is_hex(id, 16) || !is_hex(secret, 64) || !is_hex(fingerprint, 64) {
            return Err(wrong());
        }
        let mut ca_fingerprint = [0; 32];
        for (octet, at) in ca_fingerprint.iter_mut().zip((0..64).step_by(2)) {
            *octet = u8::from_str_radix(&fingerprint[at..at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self { text: text.to_owned(), ca_fingerprint })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_tokens_only_and_hides_the_secret() {
        let secret = "5e".repeat(32);
        let good = format!("weft1.{}.{secret}.{}", "0a".repeat(8), "ff".repeat(32));
        let token: JoinToken = good.parse().expect("a whole token");
        assert_eq!(token.ca_fingerprint(), [0xff; 32]);
        assert!(!format!("{token:?}").contains(&secret));
        for cut in [5, 20, 60, good.len() - 1] {
            assert!(good[..cut].parse::<JoinToken>().is_err(), "a token cut to {cut} characters was accepted");
        }
    }
}
