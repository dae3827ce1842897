//! Errors as the CNI specification wants them: a code, a message, details.

use std::fmt;

use serde::Serialize;

use super::Version;
use crate::veth::{NetlinkError, NetnsError, VethError};

/// Error codes: 1 to 99 are the specification's (section "Error"), from 100 on ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The configuration's version is not among ours.
    IncompatibleVersion = 1,
    /// A field of the configuration that we do not take.
    UnsupportedField = 2,
    /// The container does not exist; there is nothing to clean up.
    UnknownContainer = 3,
    /// An environment variable is missing or wrong.
    InvalidEnvironment = 4,
    /// Standard input or a file could not be read.
    Io = 5,
    /// Standard input is not the JSON that was expected.
    Decode = 6,
    /// The configuration is wrong.
    InvalidConfig = 7,
    /// The agent does not answer, or is not ready: try again later.
    TryAgainLater = 11,
    /// STATUS: no pod can be added.
    NotAvailable = 50,
    /// STATUS: no pod can be added, and those there are may lack connectivity.
    LimitedConnectivity = 51,
    /// Ours: no address is free.
    Exhausted = 100,
    /// Ours: the kernel refused.
    Kernel = 101,
    /// Ours: the agent refused.
    Agent = 102,
    /// Ours: CHECK found differences.
    CheckFailed = 103,
    /// Ours: the attachment's address is in none of the node's present pod CIDRs.
    AddressLost = 104,
}

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// What kind of failure.
    pub code: Code,
    /// One sentence that names the object and what to do.
    pub message: String,
    /// The causes, one a line; may be empty.
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// Adds a line of details.
    #[must_use]
    pub fn because(mut self, detail: impl fmt::Display) -> Self {
        if !self.details.is_empty() {
            self.details.push('\n');
        }
        self.details.push_str(&detail.to_string());
        self
    }

    /// The error as the runtime reads it on standard output.
    pub fn to_json(&self, version: Version) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            cni_version: &'static str,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let wire =
            Wire { cni_version: version.as_str(), code: self.code as u32, msg: &self.message, details: &self.details };
        serde_json::to_string(&wire).expect("texts and a number")
    }
}

impl From<NetlinkError> for CniError {
    fn from(error: NetlinkError) -> Self {
        VethError::from(error).into()
    }
}

impl From<NetnsError> for CniError {
    fn from(error: NetnsError) -> Self {
        VethError::from(error).into()
    }
}

impl From<VethError> for CniError {
    fn from(error: VethError) -> Self {
        let (code, message) = match &error {
            // Where it does not exist the runtime is to know that there is nothing to clean up.
            VethError::Netns(gone @ NetnsError::Gone(_)) => (Code::UnknownContainer, format!("CNI_NETNS {gone}")),
            VethError::Netns(unusable @ NetnsError::Unusable { .. }) => {
                (Code::InvalidEnvironment, format!("CNI_NETNS {unusable}"))
            }
            other => (Code::Kernel, other.to_string()),
        };
        std::error::Error::source(&error).into_iter().fold(Self::new(code, message), Self::because)
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code as u32)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for CniError {}
