//! Names of network interfaces.

use std::{fmt, str::FromStr};

/// The longest interface name the kernel takes, in bytes (`IFNAMSIZ` minus the closing zero).
const LONGEST: usize = 15;

/// The name of a network interface as the kernel takes it (`dev_valid_name` in net/core/dev.c): 1 to 15 bytes, no '/',
/// no ':', no white space, neither `.` nor `..`. Kept inline, so that it copies for free.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName {
    bytes: [u8; LONGEST],
    len: u8,
}

/// Why a text is no interface name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("interface name {0:?} is not valid: use 1 to 15 ASCII characters without '/', ':' or white space")]
pub struct LinkNameError(String);

impl LinkName {
    /// Checks a text.
    pub fn new(text: &str) -> Result<Self, LinkNameError> {
        let fits = (1..=LONGEST).contains(&text.len()) && text != "." && text != "..";
        if !fits || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':') {
            return Err(LinkNameError(text.chars().take(64).collect()));
        }
        let mut bytes = [0; LONGEST];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, len: u8::try_from(text.len()).expect("checked above: at most 15") })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("built from ASCII only")
    }
}

impl FromStr for LinkName {
    type Err = LinkNameError;

    fn from_str(text: &str) -> Result<Self, LinkNameError> {
        Self::new(text)
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_kernel_takes() {
        for good in ["eth0", "weft0", "a23456789012345", "eth0.100"] {
            assert_eq!(LinkName::new(good).expect(good).as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "a234567890123456", "é"] {
            assert!(LinkName::new(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
