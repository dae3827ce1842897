//! The `weft` command, and what its JSON says.
//!
//! Owns the reading of `weft peers` and `weft status` with `--output json`. Unknown fields are left alone; missing ones
//! are an error: they are what users' scripts rely on.

use std::{process::Output, sync::Arc};

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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The node's name.
    pub node: String,
    /// Its pod CIDRs.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    /// Its underlay addresses with their prefixes.
    pub underlay_addresses: Vec<String>,
    /// How each family is reached.
    pub paths: Vec<FamilyPath>,
    /// How it stands, such as `Ready`.
    pub state: String,
    /// One word why it is not ready.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// Since when, as RFC 3339.
    pub since: Option<String>,
    /// Its VTEP MAC.
    pub mac: String,
}

/// How one family is reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyPath {
    /// 4 or 6.
    pub family: u8,
    /// `vxlan`, `direct`, `local` or `none`; none from a controller, which counts nodes instead.
    pub path: Option<String>,
}

/// How full a pod CIDR is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AddressUse {
    /// Addresses that pods hold.
    pub held: u64,
}

/// `weft status` of an agent, as far as the lab asks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// True where the kernel holds the membership.
    pub ready: bool,
    /// One word why not.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// The revision the kernel holds.
    pub revision: Option<String>,
    /// Whether a controller is connected now.
    pub controller_connected: bool,
    /// Why it is not.
    pub controller_message: String,
    /// Pods attached.
    pub pods: u32,
    /// Objects put back so far.
    pub repaired_objects: u64,
    /// Tunnel packets of pods that were dropped.
    pub dropped_tunnel_packets_from_pods: u64,
    /// Tunnel packets of strangers that were dropped.
    pub dropped_tunnel_packets_from_strangers: u64,
    /// Tunnel packets of members that do not come from their own pods and were dropped.
    pub dropped_forged_tunnel_packets: u64,
    /// Packets of pods under addresses of others that were dropped.
    pub dropped_forged_packets_from_pods: u64,
    /// How full the node's pod CIDRs are.
    pub pod_addresses: Vec<AddressUse>,
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
        let done = self.output(arguments).await?;
        if !done.status.success() {
            bail!("weft {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Runs it with `--output json`. Its exit code does not count where it prints an answer: `weft status` fails for an
    /// agent that is not ready, and says why.
    ///
    /// # Errors
    /// Where it prints nothing or something else.
    pub async fn json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let done = self.output(&[arguments, &["--output", "json"]].concat()).await?;
        if done.stdout.is_empty() {
            bail!("weft {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim());
        }
        let printed = || format!("weft {} printed {}", arguments.join(" "), String::from_utf8_lossy(&done.stdout));
        serde_json::from_slice(&done.stdout).with_context(printed)
    }

    /// The peer list.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn peers(&self) -> Result<Vec<Peer>> {
        self.json(&["peers"]).await
    }

    /// One peer.
    ///
    /// # Errors
    /// As [`Self::json`], and where it is not in the list.
    pub async fn peer(&self, node: &str) -> Result<Peer> {
        let mut peers = self.peers().await?.into_iter();
        peers.find(|peer| peer.node == node).with_context(|| format!("{node} is not in the peer list"))
    }

    /// How the agent stands.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub async fn status(&self) -> Result<AgentStatus> {
        self.json(&["status"]).await
    }

    async fn output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binaries::find("weft")?);
        command.args(&self.arguments).args(arguments);
        self.host.output(command, &[]).await
    }
}
