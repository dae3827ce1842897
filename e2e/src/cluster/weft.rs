//! The `weft` command, and what its JSON says.
//!
//! Owns the reading of `weft peers` and `weft status` with `--output json`. Unknown fields are left alone; missing ones
//! are an error: they are what users' scripts rely on.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::process::Command;

use crate::lab::{Host, binaries};

/// The command, bound to a host and to whom it asks.
#[derive(Debug, Clone)]
pub struct Weft {
    host: Arc<Host>,
    arguments: Vec<String>,
}

/// A row of `weft peers`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The node's name.
    pub node: String,
    /// How it stands.
    pub state: String,
    /// One word why it is not ready.
    #[serde(default)]
    pub reason: String,
    /// The same as a sentence.
    #[serde(default)]
    pub message: String,
    /// How each family is reached.
    #[serde(default)]
    pub paths: Vec<FamilyPath>,
    /// Its pod CIDRs.
    #[serde(default)]
    pub pod_cidrs: Vec<String>,
}

/// How one family is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyPath {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// `vxlan`, `direct`, `local` or `none`.
    #[serde(default)]
    pub path: String,
}

/// `weft status` of an agent, as far as the lab asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// True where the kernel holds the membership.
    pub ready: bool,
    /// One word why not.
    #[serde(default)]
    pub reason: String,
    /// The same as a sentence.
    #[serde(default)]
    pub message: String,
    /// Objects put back so far.
    #[serde(default)]
    pub repairs: u64,
    /// Tunnel packets of pods that were dropped.
    #[serde(default)]
    pub dropped_from_pods: u64,
    /// Tunnel packets of strangers that were dropped.
    #[serde(default)]
    pub dropped_from_strangers: u64,
}

impl Peer {
    /// True where it is programmed, read back and answering.
    pub fn is_ready(&self) -> bool {
        self.state.eq_ignore_ascii_case("ready")
    }
}

impl Weft {
    pub(super) const fn new(host: Arc<Host>, arguments: Vec<String>) -> Self {
        Self { host, arguments }
    }

    /// Runs it and returns what it prints.
    ///
    /// # Errors
    /// Where it fails, with what it says.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binaries::find("weft")?);
        command.args(&self.arguments).args(arguments);
        let done = self.host.output(command, &[]).await?;
        if !done.status.success() {
            bail!("weft {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Runs it with `--output json`.
    ///
    /// # Errors
    /// Where it fails, or prints something else.
    pub async fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let printed = self.run(&[arguments, &["--output", "json"]].concat()).await?;
        serde_json::from_str(&printed).with_context(|| format!("weft {} printed {printed}", arguments.join(" ")))
    }

    /// The peer list.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn peers(&self) -> Result<Vec<Peer>> {
        self.json(&["peers"]).await
    }

    /// How the agent stands.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn status(&self) -> Result<AgentStatus> {
        self.json(&["status"]).await
    }
}
