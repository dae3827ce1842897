//! Where the CNI plugin goes, and the plugins that can run behind it.
//!
//! Owns how each of those is configured. Must never name one that would change what ours did: an address, a route, a link.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use serde_json::{Value, json};

/// Where the CNI plugin goes.
#[derive(Debug, Clone)]
pub struct CniPaths {
    /// The runtime's plugin directory.
    pub bin_dir: PathBuf,
    /// The runtime's configuration directory.
    pub conf_dir: PathBuf,
    /// The binary to install.
    pub binary: PathBuf,
    /// The plugins to run behind ours, in this order.
    pub chain: Vec<Chained>,
}

/// A plugin of the reference set that works on what ours made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chained {
    /// Ports of the host that lead to a pod (Kubernetes: hostPort).
    Portmap,
    /// Limits of a pod's rate (Kubernetes: annotations kubernetes.io/ingress-bandwidth and egress-bandwidth).
    Bandwidth,
}

impl Chained {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Portmap, Self::Bandwidth];

    /// The `type` in a configuration, and the binary's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portmap => "portmap",
            Self::Bandwidth => "bandwidth",
        }
    }

    /// Its part of the network configuration list.
    pub(crate) fn entry(self) -> Value {
        match self {
            // snat: so that a pod reaches itself, and the host its own ports on loopback.
            Self::Portmap => json!({"type": self.name(), "capabilities": {"portMappings": true}, "snat": true}),
            Self::Bandwidth => json!({"type": self.name(), "capabilities": {"bandwidth": true}}),
        }
    }

    /// True for a part of a list that one of them would have.
    pub(crate) fn wrote(entry: &Value) -> bool {
        Self::ALL.iter().any(|chained| chained.entry() == *entry)
    }

    /// True where the runtime would find its binary.
    pub(crate) fn is_in(self, bin_dir: &Path) -> bool {
        bin_dir.join(self.name()).is_file()
    }

    /// For the operator, where the binary is not there.
    pub(crate) fn missing_from(self, bin_dir: &Path) -> String {
        let (name, directory) = (self.name(), bin_dir.display());
        let lost = match self {
            Self::Portmap => "pods' hostPorts do nothing",
            Self::Bandwidth => "pods' rates are not limited",
        };
        format!(
            "the plugin {name} is to run behind weft-cni, and {directory} has no such binary: it is left out, so that \
             {lost} until it is there; install the reference CNI plugins, or take it out of --cni-chain"
        )
    }
}

impl FromStr for Chained {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|chained| chained.name() == text);
        found.ok_or_else(|| format!("{text:?} cannot run behind weft-cni: give portmap or bandwidth"))
    }
}
